// SPDX-License-Identifier: GPL-2.0-only
// CPUID: what is offered on a host, and what a guest is answered.
#include <vector>
#include <gtest/gtest.h>
#include <asm/kvm_para.h>
#include "sim/cpuid.h"
#include "sim/host.h"
#include "x86/cpuid.h"
#include "x86/registers.h"
#include "x86/xsave.h"

namespace kvmpp::tests
{
namespace
{

using namespace x86;

constexpr u64 avx512 = xcr0::x87 | xcr0::sse | xcr0::ymm | xcr0::avx512;
constexpr CpuidHost full{.xcr0 = avx512,
	.invpcid = true,
	.rdtscp = true,
	.xsaves = true,
	.reliable_tsc = true,
	.spec_ctrl = true};

std::vector<kvm_cpuid_entry2> offered(const CpuidHost &host)
{
	std::vector<kvm_cpuid_entry2> entries(128);
	const auto count = supported_cpuid(host, entries);
	EXPECT_TRUE(count);
	entries.resize(*count);
	return entries;
}

Cpuid guest_with(const std::vector<kvm_cpuid_entry2> &entries)
{
	Cpuid cpuid;
	EXPECT_TRUE(cpuid.set(entries));
	return cpuid;
}

kvm_cpuid_entry2 leaf(u32 function, u32 eax, u32 ebx = 0, u32 ecx = 0, u32 edx = 0)
{
	return {.function = function,
		.index = 0,
		.flags = 0,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
		.padding = {}};
}

class SupportedCpuid : public testing::Test {
protected:
	void SetUp() override { sim::reset_cpuid(); }
	void TearDown() override { sim::reset_cpuid(); }
};

TEST_F(SupportedCpuid, OffersWhatTheHostHasAndNothingThatIsNotServed)
{
	const Cpuid cpuid = guest_with(offered(full));
	EXPECT_FALSE(cpuid.has(feature::vmx));
	EXPECT_FALSE(cpuid.has(feature::monitor));
	EXPECT_TRUE(cpuid.has(feature::hypervisor));
	EXPECT_TRUE(cpuid.has(feature::x2apic));
	EXPECT_TRUE(cpuid.has(feature::long_mode));
	EXPECT_TRUE(cpuid.has(feature::tsc_adjust));
	EXPECT_TRUE(cpuid.has(feature::arch_capabilities));
	EXPECT_TRUE(cpuid.has(feature::spec_ctrl));
	EXPECT_TRUE(cpuid.has(feature::invariant_tsc));
	EXPECT_EQ(cpuid.xcr0_allowed(), avx512);
	EXPECT_EQ(cpuid.physical_bits(), sim::physical_bits);
	EXPECT_FALSE(cpuid.cr4_allowed() & X86_CR4_VMXE);
	EXPECT_TRUE(cpuid.cr4_allowed() & X86_CR4_OSXSAVE);
	EXPECT_EQ(cpuid.efer_allowed(), efer::sce | efer::lme | efer::lma | efer::nx);
}

TEST_F(SupportedCpuid, FeaturesGoWithTheControlsThatTheyNeed)
{
	const Cpuid cpuid = guest_with(offered({.xcr0 = xcr0::x87 | xcr0::sse | xcr0::ymm}));
	EXPECT_FALSE(cpuid.has(feature::invpcid));
	EXPECT_FALSE(cpuid.has(feature::rdtscp));
	EXPECT_FALSE(cpuid.has(feature::rdpid));
	EXPECT_FALSE(cpuid.has(feature::xsaves));
	EXPECT_FALSE(cpuid.has(feature::invariant_tsc));
	EXPECT_FALSE(cpuid.has(feature::spec_ctrl));
	EXPECT_FALSE(cpuid.has(feature::ssbd));
	constexpr Feature avx512f{7, 0, CpuidRegister::ebx, 16}, avx{1, 0, CpuidRegister::ecx, 28};
	EXPECT_FALSE(cpuid.has(avx512f));
	EXPECT_TRUE(cpuid.has(avx));
}

TEST_F(SupportedCpuid, WithoutXsaveThereIsNoAvx)
{
	const Cpuid cpuid = guest_with(offered({}));
	EXPECT_FALSE(cpuid.has(feature::xsave));
	constexpr Feature avx{1, 0, CpuidRegister::ecx, 28}, avx2{7, 0, CpuidRegister::ebx, 5};
	EXPECT_FALSE(cpuid.has(avx));
	EXPECT_FALSE(cpuid.has(avx2));
	EXPECT_EQ(cpuid.xcr0_allowed(), 0u);
	EXPECT_FALSE(cpuid.cr4_allowed() & X86_CR4_OSXSAVE);
}

TEST_F(SupportedCpuid, WidthsStayWithinWhatTheTablesTranslate)
{
	sim::set_cpuid(0x80000008, 0, {57 << 8 | 52, 0, 0, 0});
	EXPECT_EQ(guest_with(offered(full)).physical_bits(), 48u);
}

TEST_F(SupportedCpuid, TellsWhenThereIsNoRoom)
{
	const usize needed = offered(full).size();
	for (usize room = 0; room < needed; ++room) {
		std::vector<kvm_cpuid_entry2> entries(room);
		const auto result = supported_cpuid(full, entries);
		ASSERT_FALSE(result) << room;
		EXPECT_EQ(result.error(), Errno{E2BIG});
	}
	std::vector<kvm_cpuid_entry2> entries(needed);
	EXPECT_TRUE(supported_cpuid(full, entries));
}

TEST_F(SupportedCpuid, AnOldHostHasFewLeaves)
{
	sim::set_cpuid(0, 0, {4, 0x756e6547, 0x6c65746e, 0x49656e69});
	sim::set_cpuid(0x80000000, 0, {0, 0, 0, 0});
	for (const auto &entry : offered({})) {
		EXPECT_TRUE(entry.function <= 4 || entry.function >> 28 == 4) << entry.function;
	}
}

TEST(GuestCpuid, AnswersLeavesAndSubleaves)
{
	auto first = leaf(4, 1), second = leaf(4, 2);
	first.flags = second.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	second.index = 1;
	const Cpuid cpuid = guest_with({leaf(0, 4), leaf(1, 0x600), first, second, leaf(0x40000000, 7)});
	EXPECT_EQ(cpuid.query(4, 0).eax, 1u);
	EXPECT_EQ(cpuid.query(4, 1).eax, 2u);
	EXPECT_EQ(cpuid.query(4, 2).eax, 0u);
	EXPECT_EQ(cpuid.query(1, 77).eax, 0x600u); // without subleaves
	EXPECT_EQ(cpuid.query(0x40000000, 0).eax, 7u);
	EXPECT_EQ(cpuid.query(3, 0).eax, 0u);
}

TEST(GuestCpuid, BeyondTheLastLeafTheLastBasicOneAnswers)
{
	const Cpuid cpuid = guest_with({leaf(0, 2), leaf(2, 0xabc), leaf(0x80000000, 0x80000001)});
	EXPECT_EQ(cpuid.query(3, 0).eax, 0xabcu);
	EXPECT_EQ(cpuid.query(0x80000002, 0).eax, 0xabcu);
	EXPECT_EQ(cpuid.query(0x80000001, 0).eax, 0u);
	EXPECT_EQ(cpuid.query(0x40000000, 0).eax, 0xabcu);
}

TEST(GuestCpuid, WithoutEntriesEverythingIsZero)
{
	const Cpuid cpuid;
	EXPECT_EQ(cpuid.query(0, 0).eax, 0u);
	EXPECT_EQ(cpuid.find(0x80000001), nullptr);
	EXPECT_EQ(cpuid.physical_bits(), 36u);
}

TEST(GuestCpuid, ManyLeavesOutsideTheIndexAreFound)
{
	const Cpuid cpuid = guest_with({leaf(0, 0x100), leaf(0x50, 5), leaf(0xc0000001, 6)});
	EXPECT_EQ(cpuid.query(0x50, 0).eax, 5u);
	EXPECT_EQ(cpuid.query(0xc0000001, 0).eax, 6u);
}

TEST(GuestCpuid, OsxsaveFollowsCr4)
{
	Cpuid cpuid = guest_with({leaf(0, 1), leaf(1, 0, 0, 1u << feature::xsave.position)});
	EXPECT_FALSE(cpuid.has(feature::osxsave));
	cpuid.follow_cr4(X86_CR4_OSXSAVE);
	EXPECT_TRUE(cpuid.has(feature::osxsave));
	cpuid.follow_cr4(0);
	EXPECT_FALSE(cpuid.has(feature::osxsave));
	Cpuid without = guest_with({leaf(0, 1), leaf(1, 0)});
	without.follow_cr4(X86_CR4_OSXSAVE);
	EXPECT_FALSE(without.has(feature::osxsave));
}

TEST_F(SupportedCpuid, TheSizeOfTheXsaveImageFollowsXcr0)
{
	Cpuid cpuid = guest_with(offered(full));
	cpuid.follow_xcr0(xcr0::x87);
	EXPECT_EQ(cpuid.find(0xd, 0)->ebx, xsave_base_size);
	cpuid.follow_xcr0(xcr0::x87 | xcr0::sse | xcr0::ymm);
	EXPECT_EQ(cpuid.find(0xd, 0)->ebx, 0x240u + 0x100);
	cpuid.follow_xcr0(avx512);
	EXPECT_EQ(cpuid.find(0xd, 0)->ebx, 0x680u + 0x400);
	EXPECT_EQ(cpuid.find(0xd, 1)->ebx, xsave_base_size + 0x100 + 0x40 + 0x200 + 0x400);
}

TEST(GuestCpuid, ImpossibleWidthsAreNotBelieved)
{
	for (const u32 width : {0u, 31u, 53u, 255u}) {
		const Cpuid cpuid =
			guest_with({leaf(0x80000000, 0x80000008), leaf(0x80000008, width)});
		EXPECT_EQ(cpuid.physical_bits(), 36u) << width;
	}
}

TEST(GuestCpuid, FailsWithoutMemoryAndKeepsWhatItHad)
{
	Cpuid cpuid = guest_with({leaf(0, 7)});
	const kvm_cpuid_entry2 other[] = {leaf(0, 9)};
	sim::fail_allocation_after(0);
	const auto result = cpuid.set(other);
	sim::fail_no_allocation();
	ASSERT_FALSE(result);
	EXPECT_EQ(result.error(), Errno{ENOMEM});
	EXPECT_EQ(cpuid.query(0, 0).eax, 7u);
}

TEST(GuestCpuid, IsTheSameOrAnother)
{
	const Cpuid a = guest_with({leaf(0, 7)}), b = guest_with({leaf(0, 7)}), c = guest_with({leaf(0, 8)});
	EXPECT_TRUE(a.same_as(b));
	EXPECT_FALSE(a.same_as(c));
	EXPECT_FALSE(a.same_as(Cpuid{}));
	EXPECT_TRUE(Cpuid{}.same_as(Cpuid{}));
}

TEST(Xsave, ComponentsThatXsetbvTakes)
{
	EXPECT_TRUE(xcr0_valid(xcr0::x87, avx512));
	EXPECT_TRUE(xcr0_valid(avx512, avx512));
	EXPECT_FALSE(xcr0_valid(0, avx512));
	EXPECT_FALSE(xcr0_valid(xcr0::sse, avx512));
	EXPECT_FALSE(xcr0_valid(xcr0::x87 | xcr0::ymm, avx512));
	EXPECT_FALSE(xcr0_valid(xcr0::x87 | xcr0::sse | xcr0::opmask, avx512));
	EXPECT_FALSE(xcr0_valid(avx512 & ~xcr0::ymm, avx512));
	EXPECT_FALSE(xcr0_valid(avx512, xcr0::x87 | xcr0::sse));
	EXPECT_FALSE(xcr0_valid(xcr0::x87 | bit(9), avx512));
}

} // namespace
} // namespace kvmpp::tests
