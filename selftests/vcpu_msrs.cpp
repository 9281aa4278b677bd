// SPDX-License-Identifier: GPL-2.0-only
// Model-specific registers and CPUID of a vCPU.
#include <cerrno>
#include <cstring>
#include <iterator>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

struct Fixture {
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};

	Fixture() { REQUIRE_EQ(vcpu.set(supported_cpuid()), 0); }
};

constexpr u32 tsc = 0x10, sysenter_cs = 0x174, sysenter_esp = 0x175, pat = 0x277,
	      misc_enable = 0x1a0, efer = 0xc0000080, star = 0xc0000081, lstar = 0xc0000082,
	      fmask = 0xc0000084, fs_base = 0xc0000100, kernel_gs_base = 0xc0000102,
	      unknown = 0x12345678;

} // namespace

TEST(listed_msrs_can_all_be_read)
{
	Fixture fixture;
	MsrList list{};
	list.nmsrs = std::size(list.indices);
	REQUIRE_EQ(fixture.system.call(KVM_GET_MSR_INDEX_LIST, &list), 0);
	for (u32 i = 0; i < list.nmsrs; ++i) {
		MsrTable table{};
		table.nmsrs = 1;
		table.entries[0].index = list.indices[i];
		if (!CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), 1))
			note("MSR %#x", list.indices[i]);
	}
}

TEST(listed_msrs_are_listed_once)
{
	System system;
	MsrList list{};
	list.nmsrs = std::size(list.indices);
	REQUIRE_EQ(system.call(KVM_GET_MSR_INDEX_LIST, &list), 0);
	for (u32 i = 0; i < list.nmsrs; ++i)
		for (u32 j = 0; j < i; ++j)
			if (!CHECK(list.indices[i] != list.indices[j]))
				note("MSR %#x", list.indices[i]);
}

TEST(written_msrs_come_back)
{
	Fixture fixture;
	const struct {
		u32 index;
		u64 value;
	} values[] = {
		{sysenter_cs, 0x10},
		{sysenter_esp, 0xffff888000001000},
		{pat, 0x0007040600070406},
		{star, 0x0023001000000000},
		{lstar, 0xffffffff81000000},
		{fmask, 0x47700},
		{fs_base, 0x7fffdeadb000},
		{kernel_gs_base, 0xffff888012345000},
	};
	for (auto &[index, value] : values) {
		if (!CHECK_EQ(fixture.vcpu.set_msr(index, value), 1))
			note("MSR %#x", index);
		CHECK_EQ(fixture.vcpu.msr(index), value);
	}
}

TEST(many_msrs_at_once_stop_at_the_first_bad_one)
{
	Fixture fixture;
	MsrTable table{};
	table.nmsrs = 3;
	table.entries[0] = {.index = star, .reserved = 0, .data = 0x1111};
	table.entries[1] = {.index = unknown, .reserved = 0, .data = 0};
	table.entries[2] = {.index = fmask, .reserved = 0, .data = 0x2222};
	u64 before = fixture.vcpu.msr(fmask);
	CHECK_EQ(fixture.vcpu.call(KVM_SET_MSRS, &table), 1);
	CHECK_EQ(fixture.vcpu.msr(star), 0x1111u);
	CHECK_EQ(fixture.vcpu.msr(fmask), before);
	CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), 1);
}

TEST(at_most_256_msrs_at_once)
{
	Fixture fixture;
	static MsrTable table;
	for (auto &entry : table.entries)
		entry.index = star;
	table.nmsrs = 256;
	CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), -E2BIG);
	table.nmsrs = 255;
	CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), 255);
	for (u32 count : {257u, 0x10000000u, ~0u}) {
		table.nmsrs = count;
		CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), -E2BIG);
		CHECK_EQ(fixture.vcpu.call(KVM_SET_MSRS, &table), -E2BIG);
	}
	table.nmsrs = 0;
	CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), 0);
}

TEST(values_that_no_processor_takes_are_refused)
{
	Fixture fixture;
	const struct {
		u32 index;
		u64 value;
	} values[] = {
		{lstar, 0x800000000000}, // not canonical
		{kernel_gs_base, 0x1234567800000000},
		{pat, 0x0000000000000002}, // no such memory type
		{pat, 0x0800000000000000},
		{efer, 1ull << 63},
		{efer, 1 << 1},
	};
	for (auto &[index, value] : values) {
		u64 before = fixture.vcpu.msr(index);
		if (!CHECK_EQ(fixture.vcpu.set_msr(index, value), 0))
			note("MSR %#x, value %#jx", index, uintmax_t{value});
		CHECK_EQ(fixture.vcpu.msr(index), before);
	}
}

TEST(CVE_2016_3713_the_gap_among_the_mtrrs)
{
	Fixture fixture;
	MsrTable table{};
	table.nmsrs = 1;
	table.entries[0] = {.index = 0x2f8, .reserved = 0, .data = 0};
	CHECK_EQ(fixture.vcpu.call(KVM_GET_MSRS, &table), 0);
	CHECK_EQ(fixture.vcpu.call(KVM_SET_MSRS, &table), 0);
}

TEST(mtrrs_come_back)
{
	Fixture fixture;
	for (u32 index : {0x250u, 0x258u, 0x268u, 0x26fu}) {
		CHECK_EQ(fixture.vcpu.set_msr(index, 0x0606060606060606), 1);
		CHECK_EQ(fixture.vcpu.msr(index), 0x0606060606060606u);
		CHECK_EQ(fixture.vcpu.set_msr(index, 0x0206060606060606), 0);
	}
	CHECK_EQ(fixture.vcpu.set_msr(0x2ff, 0xc06), 1);
	CHECK_EQ(fixture.vcpu.msr(0x2ff), 0xc06u);
	CHECK_EQ(fixture.vcpu.set_msr(0x2ff, 0xc02), 0);
	CHECK_EQ(fixture.vcpu.set_msr(0x200, 0x100000006), 1);
	CHECK_EQ(fixture.vcpu.msr(0x200), 0x100000006u);
}

TEST(tsc_goes_on_from_where_it_is_set)
{
	Fixture fixture;
	REQUIRE_EQ(fixture.vcpu.set_msr(tsc, 1'000'000'000'000), 1);
	u64 now = fixture.vcpu.msr(tsc);
	CHECK(now >= 1'000'000'000'000);
	CHECK(now < 2'000'000'000'000);
	CHECK(fixture.vcpu.msr(tsc) >= now);
}

TEST(no_msr_number_is_fatal)
{
	Fixture fixture;
	MsrTable table{};
	table.nmsrs = 1;
	for (u32 base : {0u, 0x800u, 0xc0000000u, 0xc0010000u, 0x4b564d00u})
		for (u32 i = 0; i < 0x400; ++i) {
			table.entries[0].index = base + i;
			int answer = fixture.vcpu.call(KVM_GET_MSRS, &table);
			if (!CHECK(answer == 0 || answer == 1))
				note("MSR %#x", base + i);
		}
}

TEST(cpuid_comes_back)
{
	Fixture fixture;
	const CpuidTable &given = supported_cpuid();
	CpuidTable back{};
	back.nent = std::size(back.entries);
	REQUIRE_EQ(fixture.vcpu.call(KVM_GET_CPUID2, &back), 0);
	// Newer kernels than 6.1 say how many there were.
	CHECK(back.nent == given.nent || back.nent == std::size(back.entries));
	for (u32 i = 0; i < given.nent; ++i) {
		CHECK_EQ(back.entries[i].function, given.entries[i].function);
		CHECK_EQ(back.entries[i].index, given.entries[i].index);
	}
}

TEST(cpuid_needs_room)
{
	Fixture fixture;
	CpuidTable table{};
	table.nent = 1;
	CHECK_EQ(fixture.vcpu.call(KVM_GET_CPUID2, &table), -E2BIG);
	for (u32 count : {257u, 0x1000000u, ~0u}) {
		table.nent = count;
		CHECK_EQ(fixture.vcpu.call(KVM_SET_CPUID2, &table), -E2BIG);
	}
}

TEST(cpuid_may_be_empty_and_may_change)
{
	Fixture fixture;
	CpuidTable table{};
	CHECK_EQ(fixture.vcpu.set(table), 0);
	table = supported_cpuid();
	table.find(1)->ecx ^= 1;
	CHECK_EQ(fixture.vcpu.set(table), 0);
	CHECK_EQ(fixture.vcpu.set(table), 0);
}

GUEST_CODE(ask_cpuid, 64, R"(
	mov $0x40000100, %eax
	xor %ecx, %ecx
	cpuid
	hlt
)");

TEST(cpuid_of_a_guest_that_has_run_stays)
{
	Guest guest{Mode::long_mode, ask_cpuid};
	guest.run_to_halt();
	CpuidTable same = supported_cpuid(), other = same;
	other.find(1)->ecx ^= 1;
	CHECK_EQ(guest.vcpu.set(same), 0);
	CHECK_EQ(guest.vcpu.set(other), -EINVAL);
}

TEST(a_guest_sees_the_cpuid_that_was_set)
{
	Guest guest{Mode::long_mode, ask_cpuid};
	CpuidTable table = supported_cpuid();
	table.entries[table.nent++] = {.function = 0x40000100,
		.index = 0,
		.flags = 0,
		.eax = 0x11111111,
		.ebx = 0x22222222,
		.ecx = 0x33333333,
		.edx = 0x44444444,
		.padding = {}};
	REQUIRE_EQ(guest.vcpu.set(table), 0);
	guest.run_to_halt();
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rax, 0x11111111u);
	CHECK_EQ(regs.rbx, 0x22222222u);
	CHECK_EQ(regs.rcx, 0x33333333u);
	CHECK_EQ(regs.rdx, 0x44444444u);
}
