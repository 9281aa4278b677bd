// SPDX-License-Identifier: GPL-2.0-only
// KVM_SET_SREGS: combinations of CR0, CR4, EFER, CS and the APIC base that no processor can be in
// are refused before they reach one.
#include <cerrno>
#include <cstring>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

constexpr u64 pe = 1, ne = 1 << 5, wp = 1 << 16, nw = 1 << 29, cd = 1 << 30, pg = 1u << 31;
constexpr u64 pae = 1 << 5, vmxe = 1 << 13, osxsave = 1 << 18;
constexpr u64 lme = 1 << 8, lma = 1 << 10;

GUEST_CODE(halt, 64, "hlt");

struct Fixture : Guest {
	Fixture() : Guest(Mode::long_mode, halt), before(vcpu.sregs()) {}

	template <typename Change>
	int after(Change change) const
	{
		kvm_sregs sregs = before;
		change(sregs);
		int answer = vcpu.call(KVM_SET_SREGS, &sregs);
		if (answer)
			return answer;
		REQUIRE_EQ(vcpu.call(KVM_SET_SREGS, &before), 0);
		return 0;
	}

	kvm_sregs before;
};

} // namespace

TEST(special_registers_come_back)
{
	Fixture fixture;
	kvm_sregs sregs = fixture.before;
	sregs.fs.base = 0x7fff12345678;
	sregs.gs.base = 0xffff888012345678;
	sregs.cr2 = 0xfeedbeef;
	sregs.cr8 = 5;
	sregs.gdt = {.base = 0x6000, .limit = 0x123, .padding = {}};
	sregs.idt = {.base = 0x5000, .limit = 0x456, .padding = {}};
	fixture.vcpu.set(sregs);
	kvm_sregs back = fixture.vcpu.sregs();
	CHECK_EQ(back.fs.base, sregs.fs.base);
	CHECK_EQ(back.gs.base, sregs.gs.base);
	CHECK_EQ(back.cr2, sregs.cr2);
	CHECK_EQ(back.cr8, sregs.cr8);
	CHECK_EQ(back.gdt.base, sregs.gdt.base);
	CHECK_EQ(back.gdt.limit, sregs.gdt.limit);
	CHECK_EQ(back.idt.base, sregs.idt.base);
	CHECK_EQ(back.idt.limit, sregs.idt.limit);
	CHECK_EQ(back.cr0, sregs.cr0);
	CHECK_EQ(back.cr3, sregs.cr3);
	CHECK_EQ(back.cr4, sregs.cr4);
	CHECK_EQ(back.efer, sregs.efer);
}

TEST(segments_come_back)
{
	Fixture fixture;
	kvm_sregs sregs = fixture.before;
	sregs.es = flat_segment(0x2b, 3);
	sregs.es.base = 0x12340;
	sregs.es.avl = 1;
	sregs.ldt.selector = 0x40;
	sregs.ldt.base = 0x9000;
	sregs.ldt.limit = 0x7f;
	sregs.ldt.type = 2;
	sregs.ldt.present = 1;
	sregs.ldt.s = 0;
	sregs.ldt.unusable = 0;
	sregs.fs = {};
	sregs.fs.unusable = 1;
	fixture.vcpu.set(sregs);
	kvm_sregs back = fixture.vcpu.sregs();
	for (auto member : {&kvm_sregs::cs, &kvm_sregs::ds, &kvm_sregs::es, &kvm_sregs::ss,
		     &kvm_sregs::ldt, &kvm_sregs::tr}) {
		CHECK_EQ((back.*member).selector, (sregs.*member).selector);
		CHECK_EQ((back.*member).base, (sregs.*member).base);
		CHECK_EQ((back.*member).limit, (sregs.*member).limit);
		CHECK_EQ((back.*member).type, (sregs.*member).type);
		CHECK_EQ((back.*member).dpl, (sregs.*member).dpl);
		CHECK_EQ((back.*member).avl, (sregs.*member).avl);
	}
	CHECK_EQ(back.fs.unusable, 1);
}

TEST(CVE_2012_4461_osxsave_without_xsave)
{
	Fixture fixture;
	CpuidTable table = supported_cpuid();
	table.find(1)->ecx &= ~(1u << 26);
	REQUIRE_EQ(fixture.vcpu.set(table), 0);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.cr4 |= osxsave; }), -EINVAL);
	fixture.run_to_halt();
}

TEST(cr4_bits_follow_cpuid)
{
	// CR4 bit, and where CPUID says that a guest may set it (SDM vol. 3, 2.5).
	const struct {
		unsigned bit;
		u32 function;
		__u32 kvm_cpuid_entry2::*reg;
		unsigned feature;
	} bits[] = {
		{11, 7, &kvm_cpuid_entry2::ecx, 2},  // UMIP
		{12, 7, &kvm_cpuid_entry2::ecx, 16}, // LA57
		{13, 1, &kvm_cpuid_entry2::ecx, 5},  // VMXE
		{16, 7, &kvm_cpuid_entry2::ebx, 0},  // FSGSBASE
		{17, 1, &kvm_cpuid_entry2::ecx, 17}, // PCIDE
		{20, 7, &kvm_cpuid_entry2::ebx, 7},  // SMEP
		{21, 7, &kvm_cpuid_entry2::ebx, 20}, // SMAP
		{22, 7, &kvm_cpuid_entry2::ecx, 3},  // PKE
	};
	Fixture fixture;
	CpuidTable table = supported_cpuid();
	for (auto &bit : bits)
		if (auto *entry = table.find(bit.function))
			entry->*bit.reg &= ~(1u << bit.feature);
	REQUIRE_EQ(fixture.vcpu.set(table), 0);
	for (auto &bit : bits)
		if (!CHECK_EQ(
			    fixture.after([&](kvm_sregs &sregs) { sregs.cr4 |= 1ull << bit.bit; }),
			    -EINVAL))
			note("CR4 bit %u", bit.bit);
}

TEST(cr4_reserved_bits_are_refused)
{
	Fixture fixture;
	for (unsigned bit : {15u, 19u, 26u, 30u, 31u, 32u, 63u})
		if (!CHECK_EQ(fixture.after([&](kvm_sregs &sregs) { sregs.cr4 |= 1ull << bit; }),
			    -EINVAL))
			note("CR4 bit %u", bit);
}

TEST(cr0_combinations_that_cannot_be)
{
	Fixture fixture;
	const struct {
		const char *what;
		u64 set, clear;
	} cases[] = {
		{"bit 32", 1ull << 32, 0},
		{"bit 63", 1ull << 63, 0},
		{"NW without CD", nw, cd},
		{"PG without PE", 0, pe},
	};
	for (auto &one : cases)
		if (!CHECK_EQ(fixture.after([&](kvm_sregs &sregs) {
			    sregs.cr0 = (sregs.cr0 | one.set) & ~one.clear;
		    }),
			    -EINVAL))
			note("CR0 with %s", one.what);
	CHECK_EQ(fixture.after([&](kvm_sregs &sregs) { sregs.cr0 |= nw | cd; }), 0);
}

TEST(long_mode_combinations_that_cannot_be)
{
	Fixture fixture;
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.cr4 &= ~pae; }), -EINVAL);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.efer &= ~lma; }), -EINVAL);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.efer &= ~lme; }), -EINVAL);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.cr0 &= ~pg; }), -EINVAL);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.cr3 |= 1ull << 60; }), -EINVAL);
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) {
		sregs.cr0 = pe | ne | wp;
		sregs.efer = 0;
	}),
		-EINVAL); // CS.L is left
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) {
		sregs.cr0 = pe | ne | wp;
		sregs.efer = 0;
		sregs.cs.l = 0;
		sregs.cs.db = 1;
	}),
		0);
}

TEST(a_refused_set_leaves_the_vcpu_as_it_was)
{
	Fixture fixture;
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) {
		sregs.cr4 |= 1u << 31;
		sregs.cr2 = 0x1234;
		sregs.cr3 = 0x7000;
		sregs.gdt.base = 0x1234;
	}),
		-EINVAL);
	kvm_sregs now = fixture.vcpu.sregs();
	CHECK_EQ(now.cr4, fixture.before.cr4);
	CHECK_EQ(now.cr3, fixture.before.cr3);
	fixture.run_to_halt();
}

TEST(apic_base_must_be_possible)
{
	Guest guest{Mode::long_mode, halt, Guest::with_irqchip};
	kvm_sregs before = guest.vcpu.sregs();
	const struct {
		const char *what;
		u64 base;
		int expected;
	} cases[] = {
		{"moved", 0xfed00900, 0},
		{"off", 0xfee00100, 0},
		{"on again", 0xfee00900, 0},
		{"x2APIC", 0xfee00d00, 0},
		{"x2APIC without enable", 0xfee00500, -EINVAL},
		{"reserved bit 0", 0xfee00901, -EINVAL},
		{"reserved bit 9", 0xfee00b00, -EINVAL},
		{"beyond physical addresses", 1ull << 52 | 0xfee00900, -EINVAL},
	};
	for (auto &one : cases) {
		kvm_sregs sregs = before;
		sregs.apic_base = one.base;
		if (!CHECK_EQ(guest.vcpu.call(KVM_SET_SREGS, &sregs), one.expected))
			note("APIC base %s", one.what);
		else if (one.expected == 0)
			CHECK_EQ(guest.vcpu.sregs().apic_base, one.base);
	}
}

TEST(vmxe_needs_nested_virtualization)
{
	Fixture fixture;
	bool nested = supported_cpuid().nent && CpuidTable{supported_cpuid()}.find(1)->ecx & 1 << 5;
	CHECK_EQ(fixture.after([](kvm_sregs &sregs) { sregs.cr4 |= vmxe; }), nested ? 0 : -EINVAL);
}
