// SPDX-License-Identifier: GPL-2.0-only
// Which processors can run kvmpp's guests, and with which controls.
#include <cstring>
#include <gtest/gtest.h>
#include "sim/cpu/model.h"
#include "vmx/capabilities.h"
#include "vmx/msr_bitmap.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace msr = x86::msr;
using namespace vmx;

class CapabilitiesTest : public testing::Test {
protected:
	void SetUp() override { sim::reset_machine(); }

	static u64 msr_of(u32 index) { return sim::cpu(0).msrs.at(index); }
	static void allow_not(u32 index, u32 control)
	{
		sim::set_msr_everywhere(index, msr_of(index) & ~(u64{control} << 32));
	}
	static std::string refusal()
	{
		sim::InKernel kernel;
		const auto capabilities = read_capabilities();
		if (!capabilities)
			return capabilities.error().missing;
		const auto controls = choose_controls(*capabilities);
		return controls ? "" : controls.error().missing;
	}
	static Controls controls()
	{
		sim::InKernel kernel;
		return *choose_controls(*read_capabilities());
	}
};

TEST_F(CapabilitiesTest, AServerOfTodayIsFit)
{
	EXPECT_EQ(refusal(), "");
	const Controls chosen = controls();
	EXPECT_TRUE(chosen.secondary & secondary::ept);
	EXPECT_TRUE(chosen.secondary & secondary::vpid);
	EXPECT_FALSE(chosen.primary & primary::cr3_load_exiting);
	EXPECT_FALSE(chosen.primary & primary::invlpg_exiting);
	EXPECT_FALSE(chosen.entry & entry_control::ia32e_guest);
	// Nothing that is not allowed, everything that must be.
	const auto fits = [](u32 word, u64 range) {
		const auto fixed = static_cast<u32>(range), may = static_cast<u32>(range >> 32);
		return (word & fixed) == fixed && !(word & ~may);
	};
	EXPECT_TRUE(fits(chosen.pin, msr_of(msr::vmx_true_pin)));
	EXPECT_TRUE(fits(chosen.primary, msr_of(msr::vmx_true_primary)));
	EXPECT_TRUE(fits(chosen.secondary, msr_of(msr::vmx_secondary)));
	EXPECT_TRUE(fits(chosen.exit, msr_of(msr::vmx_true_exit)));
	EXPECT_TRUE(fits(chosen.entry, msr_of(msr::vmx_true_entry)));
}

TEST_F(CapabilitiesTest, WithoutVtxNothingElseIsAsked)
{
	auto leaf = sim::get_cpuid(1, 0);
	leaf.ecx &= ~(1u << 5);
	sim::set_cpuid(1, 0, leaf);
	sim::set_msr_everywhere(msr::vmx_basic, {});
	EXPECT_NE(refusal().find("VT-x (CPUID"), std::string::npos);
}

TEST_F(CapabilitiesTest, TheFirmwareMaySwitchItOff)
{
	sim::set_msr_everywhere(msr::feature_control, msr::feature_control_bits::locked);
	EXPECT_NE(refusal().find("firmware"), std::string::npos);
	sim::set_msr_everywhere(msr::feature_control,
		msr::feature_control_bits::locked | msr::feature_control_bits::vmx_in_smx);
	EXPECT_NE(refusal().find("firmware"), std::string::npos);
	// Unlocked it is for us to switch on.
	sim::set_msr_everywhere(msr::feature_control, 0);
	EXPECT_EQ(refusal(), "");
	sim::set_msr_everywhere(msr::feature_control, {});
	EXPECT_NE(refusal().find("firmware"), std::string::npos);
}

TEST_F(CapabilitiesTest, ARefusalNamesTheControlThatIsMissing)
{
	struct Case {
		u32 msr, control;
		const char *name;
	};
	const Case cases[] = {
		{msr::vmx_true_pin, pin::virtual_nmis, "virtual NMIs"},
		{msr::vmx_true_pin, pin::nmi_exiting, "NMI exiting"},
		{msr::vmx_true_primary, primary::msr_bitmaps, "MSR bitmaps"},
		{msr::vmx_true_primary, primary::tsc_offsetting, "TSC offsetting"},
		{msr::vmx_true_primary, primary::secondary_controls, "secondary controls"},
		{msr::vmx_secondary, secondary::ept, "extended page tables"},
		{msr::vmx_true_exit, exit_control::load_efer, "load IA32_EFER at exit"},
		{msr::vmx_true_exit, exit_control::save_pat, "save IA32_PAT at exit"},
		{msr::vmx_true_entry, entry_control::ia32e_guest, "IA-32e mode guests"},
		{msr::vmx_true_entry, entry_control::load_pat, "load IA32_PAT at entry"},
	};
	for (const Case &one : cases) {
		sim::reset_machine();
		allow_not(one.msr, one.control);
		EXPECT_EQ(refusal(), one.name);
	}
}

TEST_F(CapabilitiesTest, WithoutTrueControlsCr3ExitsCannotBeAvoided)
{
	sim::set_msr_everywhere(msr::vmx_basic, msr_of(msr::vmx_basic) & ~bit(55));
	EXPECT_NE(refusal().find("CR3"), std::string::npos);
}

TEST_F(CapabilitiesTest, EptMustBeOfFourLevelsAndInvalidatedAsAWhole)
{
	for (const unsigned missing : {6, 14, 20, 26}) {
		sim::reset_machine();
		sim::set_msr_everywhere(msr::vmx_ept_vpid, msr_of(msr::vmx_ept_vpid) & ~bit(missing));
		EXPECT_NE(refusal(), "") << missing;
	}
}

TEST_F(CapabilitiesTest, AVpidThatCannotBeFlushedIsNotUsed)
{
	for (const unsigned missing : {32, 41}) {
		sim::reset_machine();
		sim::set_msr_everywhere(msr::vmx_ept_vpid, msr_of(msr::vmx_ept_vpid) & ~bit(missing));
		ASSERT_EQ(refusal(), "");
		EXPECT_FALSE(controls().secondary & secondary::vpid);
	}
}

TEST_F(CapabilitiesTest, WhatIsOptionalIsUsedWhereItIs)
{
	for (const u32 control : {secondary::rdtscp, secondary::wbinvd_exiting, secondary::invpcid,
		     secondary::xsaves, secondary::pause_loop_exiting}) {
		EXPECT_TRUE(controls().secondary & control);
		allow_not(msr::vmx_secondary, control);
		ASSERT_EQ(refusal(), "");
		EXPECT_FALSE(controls().secondary & control);
	}
}

// What a local APIC may use: each part needs those before it.
TEST_F(CapabilitiesTest, TheApicsPartsBuildOnEachOther)
{
	using namespace secondary;
	EXPECT_EQ(controls().secondary & apic_virtualization, apic_virtualization);
	allow_not(msr::vmx_secondary, virtual_interrupt_delivery);
	EXPECT_EQ(controls().secondary & apic_virtualization, virtual_apic_accesses | apic_register_virtualization);
	allow_not(msr::vmx_secondary, apic_register_virtualization);
	EXPECT_EQ(controls().secondary & apic_virtualization, virtual_apic_accesses);
	allow_not(msr::vmx_true_primary, primary::tpr_shadow);
	EXPECT_EQ(controls().secondary & apic_virtualization, 0u);
	sim::reset_machine();
	allow_not(msr::vmx_secondary, virtual_apic_accesses);
	EXPECT_EQ(controls().secondary & apic_virtualization, 0u);
}

TEST_F(CapabilitiesTest, AVmcsThatIsNotWriteBackOrTooLargeIsRefused)
{
	const u64 basic = msr_of(msr::vmx_basic);
	sim::set_msr_everywhere(msr::vmx_basic, basic & ~bits(53, 50));
	EXPECT_NE(refusal().find("VMCS"), std::string::npos);
	sim::set_msr_everywhere(msr::vmx_basic, (basic & ~bits(44, 32)) | u64{0x1fff} << 32);
	EXPECT_NE(refusal().find("VMCS"), std::string::npos);
}

TEST(MsrBitmap, EveryAccessExitsAtFirst)
{
	const auto bitmap = MsrBitmap::create(0);
	ASSERT_TRUE(bitmap);
	for (const u32 index : {0x0u, 0x10u, 0x1fffu, 0x2000u, 0xc0000000u, 0xc0001fffu, 0xc0002000u, ~0u}) {
		EXPECT_TRUE(bitmap->reads_exit(index));
		EXPECT_TRUE(bitmap->writes_exit(index));
	}
}

TEST(MsrBitmap, EachBitIsItsOwn)
{
	auto bitmap = MsrBitmap::create(0);
	ASSERT_TRUE(bitmap);
	bitmap->intercept_reads(msr::tsc, false);
	bitmap->intercept_writes(msr::lstar, false);
	EXPECT_FALSE(bitmap->reads_exit(msr::tsc));
	EXPECT_TRUE(bitmap->writes_exit(msr::tsc));
	EXPECT_TRUE(bitmap->reads_exit(msr::lstar));
	EXPECT_FALSE(bitmap->writes_exit(msr::lstar));
	// SDM vol. 3, 25.6.9: four parts of 1 KiB.
	const auto *bytes = reinterpret_cast<const u8 *>(bitmap->physical().value);
	EXPECT_EQ(bytes[msr::tsc / 8], 0xff & ~(1 << msr::tsc % 8));
	EXPECT_EQ(bytes[3072 + 0x82 / 8], 0xff & ~(1 << 0x82 % 8));
	unsigned cleared = 0;
	for (usize i = 0; i < page_size; ++i)
		cleared += 8 - __builtin_popcount(bytes[i]);
	EXPECT_EQ(cleared, 2u);
	bitmap->intercept(msr::tsc, true);
	EXPECT_TRUE(bitmap->reads_exit(msr::tsc));
}

TEST(MsrBitmap, MsrsThatItDoesNotCoverStayAsTheyAre)
{
	auto bitmap = MsrBitmap::create(0);
	ASSERT_TRUE(bitmap);
	for (const u32 index : {0x2000u, 0xbfffffffu, 0xc0002000u, ~0u})
		bitmap->intercept(index, false);
	const auto *bytes = reinterpret_cast<const u8 *>(bitmap->physical().value);
	for (usize i = 0; i < page_size; ++i)
		ASSERT_EQ(bytes[i], 0xff) << i;
}

} // namespace
} // namespace kvmpp::tests
