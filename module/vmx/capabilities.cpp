// SPDX-License-Identifier: GPL-2.0-only
#include "vmx/capabilities.h"

#include "host/seam.h"
#include "x86/msr.h"

namespace kvmpp::vmx
{
namespace
{

namespace msr = x86::msr;

// One group of controls: what kvmpp needs by name, and what it uses where it is there.
struct Required {
	u32 bit;
	const char *name;
};

constexpr Required required_pin[] = {
	{pin::external_interrupt_exiting, "external-interrupt exiting"},
	{pin::nmi_exiting, "NMI exiting"},
	{pin::virtual_nmis, "virtual NMIs"},
};
constexpr u32 optional_pin = pin::preemption_timer;

constexpr Required required_primary[] = {
	{primary::hlt_exiting, "HLT exiting"},
	{primary::mwait_exiting, "MWAIT exiting"},
	{primary::monitor_exiting, "MONITOR exiting"},
	{primary::rdpmc_exiting, "RDPMC exiting"},
	{primary::tsc_offsetting, "TSC offsetting"},
	{primary::mov_dr_exiting, "MOV-DR exiting"},
	{primary::unconditional_io_exiting, "unconditional I/O exiting"},
	{primary::msr_bitmaps, "MSR bitmaps"},
	{primary::cr8_load_exiting, "CR8-load exiting"},
	{primary::cr8_store_exiting, "CR8-store exiting"},
	{primary::secondary_controls, "secondary controls"},
};
constexpr u32 optional_primary = primary::tpr_shadow;
// Set by default and not wanted: EPT makes these exits needless.
constexpr u32 unwanted_primary =
	primary::cr3_load_exiting | primary::cr3_store_exiting | primary::invlpg_exiting;

constexpr Required required_secondary[] = {
	{secondary::ept, "extended page tables"},
};
constexpr u32 optional_secondary = secondary::unrestricted_guest | secondary::rdtscp | secondary::vpid | secondary::wbinvd_exiting |
				   secondary::pause_loop_exiting | secondary::invpcid |
				   secondary::xsaves | secondary::tsc_scaling | secondary::bus_lock_detection |
				   secondary::notify_exiting | secondary::pml |
				   secondary::apic_virtualization;

constexpr Required required_exit[] = {
	{exit_control::host_64bit, "64-bit host"},
	{exit_control::load_efer, "load IA32_EFER at exit"},
	{exit_control::load_pat, "load IA32_PAT at exit"},
	{exit_control::save_pat, "save IA32_PAT at exit"},
	{exit_control::save_debug_controls, "save debug controls at exit"},
};
constexpr Required required_entry[] = {
	{entry_control::load_efer, "load IA32_EFER at entry"},
	{entry_control::load_pat, "load IA32_PAT at entry"},
	{entry_control::ia32e_guest, "IA-32e mode guests"},
	{entry_control::load_debug_controls, "load debug controls at entry"},
};

template <usize count>
std::expected<u32, Refusal> choose(ControlRange range, const Required (&required)[count], u32 optional,
	u32 unwanted = 0)
{
	u32 word = range.fixed & ~unwanted;
	if (range.fixed & unwanted)
		return std::unexpected{Refusal{"a way not to exit on CR3 and INVLPG"}};
	for (const Required &control : required) {
		if (!(range.allowed & control.bit))
			return std::unexpected{Refusal{control.name}};
		word |= control.bit;
	}
	return word | (optional & range.allowed);
}

u64 read(u32 index)
{
	u64 value = 0;
	kvmpp_msr_read(index, &value);
	return value;
}

bool has_vmx()
{
	constexpr u32 cpuid_1_ecx_vmx = 1u << 5;
	u32 registers[4];
	kvmpp_cpuid(1, 0, registers);
	return registers[2] & cpuid_1_ecx_vmx;
}

// It counts at a wrong rate on Nehalem and Westmere (erratum AAJ124 and its kin), which have no TSC
// deadline either, and on one stepping of Ivy Bridge.
bool preemption_timer_sound()
{
	constexpr u32 tsc_deadline = 1u << 24, ivy_bridge_e1 = 0x306a8;
	u32 registers[4];
	kvmpp_cpuid(1, 0, registers);
	return registers[2] & tsc_deadline && registers[0] != ivy_bridge_e1;
}

// Unlocked is as good as on: enabling VT-x on a CPU sets and locks it (SDM vol. 3, 24.7).
bool allowed_by_firmware()
{
	using namespace msr::feature_control_bits;
	u64 value;
	if (kvmpp_msr_read(msr::feature_control, &value))
		return false;
	return !(value & locked) || (value & vmx_outside_smx);
}

} // namespace

std::expected<Capabilities, Refusal> read_capabilities()
{
	if (!has_vmx())
		return std::unexpected{Refusal{"VT-x (CPUID.1:ECX.VMX)"}};
	if (!allowed_by_firmware())
		return std::unexpected{
			Refusal{"VT-x outside SMX in IA32_FEATURE_CONTROL: the firmware switched it off"}};

	constexpr u64 true_controls = bit(55);
	const u64 basic = read(msr::vmx_basic);
	const bool has_true = basic & true_controls;

	Capabilities result;
	result.revision = basic & 0x7fffffff;
	result.pin = ControlRange::from_msr(read(has_true ? msr::vmx_true_pin : msr::vmx_pin));
	result.primary = ControlRange::from_msr(read(has_true ? msr::vmx_true_primary : msr::vmx_primary));
	result.exit = ControlRange::from_msr(read(has_true ? msr::vmx_true_exit : msr::vmx_exit));
	result.entry = ControlRange::from_msr(read(has_true ? msr::vmx_true_entry : msr::vmx_entry));
	if (result.primary.allowed & primary::secondary_controls)
		result.secondary = ControlRange::from_msr(read(msr::vmx_secondary));
	if (result.secondary.allowed & (secondary::ept | secondary::vpid))
		result.ept_vpid = read(msr::vmx_ept_vpid);
	result.misc = read(msr::vmx_misc);
	result.cr0_fixed0 = read(msr::vmx_cr0_fixed0);
	result.cr0_fixed1 = read(msr::vmx_cr0_fixed1);
	result.cr4_fixed0 = read(msr::vmx_cr4_fixed0);
	result.cr4_fixed1 = read(msr::vmx_cr4_fixed1);

	// VMCS region: write-back memory of at most a page (SDM vol. 3, A.1).
	constexpr u64 write_back = 6;
	if ((basic >> 50 & 0xf) != write_back || (basic >> 32 & 0x1fff) > page_size)
		return std::unexpected{Refusal{"a write-back VMCS of at most 4 KiB"}};
	return result;
}

std::expected<Controls, Refusal> choose_controls(const Capabilities &capabilities)
{
	Controls controls;
	controls.pin = TRY(choose(capabilities.pin, required_pin, optional_pin));
	if (!preemption_timer_sound())
		controls.pin &= ~pin::preemption_timer;
	controls.primary =
		TRY(choose(capabilities.primary, required_primary, optional_primary, unwanted_primary));
	controls.secondary =
		TRY(choose(capabilities.secondary, required_secondary, optional_secondary));
	controls.exit = TRY(choose(capabilities.exit, required_exit, 0));
	controls.entry = TRY(choose(capabilities.entry, required_entry, 0));
	// Long mode is the guest's to choose.
	controls.entry &= ~entry_control::ia32e_guest | capabilities.entry.fixed;

	constexpr u64 four_levels = bit(6), write_back = bit(14), invept = bit(20), invept_all = bit(26);
	if (!(capabilities.ept_vpid & four_levels) || !(capabilities.ept_vpid & write_back))
		return std::unexpected{Refusal{"EPT with four levels and write-back tables"}};
	if (!(capabilities.ept_vpid & invept) || !(capabilities.ept_vpid & invept_all))
		return std::unexpected{Refusal{"INVEPT of all contexts"}};

	// The registers of an xAPIC need its accesses, delivery needs everything.
	if (!(controls.primary & primary::tpr_shadow) ||
		!(controls.secondary & secondary::virtual_apic_accesses))
		controls.secondary &= ~secondary::apic_virtualization;
	if ((controls.secondary & secondary::apic_virtualization) != secondary::apic_virtualization)
		controls.secondary &= ~secondary::apic_delivery;

	// What is logged is that a dirty flag is set.
	if (!capabilities.ept_accessed_dirty())
		controls.secondary &= ~secondary::pml;

	// VPIDs are of use only with the means to flush one.
	if (!capabilities.invvpid_single())
		controls.secondary &= ~secondary::vpid;
	return controls;
}

} // namespace kvmpp::vmx
