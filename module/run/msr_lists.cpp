// SPDX-License-Identifier: GPL-2.0-only
// The MSRs that a VMM saves and restores, and those that describe what kvmpp offers.
#include <asm/kvm_para.h>
#include "run/msrs.h"
#include "x86/msr.h"

namespace kvmpp::run
{
namespace
{

namespace msr = x86::msr;

constexpr u32 saved[] = {msr::sysenter_cs, msr::sysenter_esp, msr::sysenter_eip, msr::star, msr::lstar,
	msr::cstar, msr::syscall_mask, msr::kernel_gs_base, msr::fs_base, msr::gs_base, msr::efer, msr::pat,
	msr::tsc, msr::tsc_adjust, msr::tsc_aux, msr::tsc_deadline, msr::apic_base, msr::misc_enable,
	msr::mcg_status, msr::mcg_ctl, msr::feature_control, msr::spec_ctrl, msr::arch_capabilities,
	msr::platform_info, msr::xss, msr::power_ctl, msr::smbase, msr::smi_count, MSR_KVM_WALL_CLOCK,
	MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN,
	MSR_KVM_POLL_CONTROL, MSR_KVM_ASYNC_PF_EN, MSR_KVM_ASYNC_PF_INT, MSR_KVM_ASYNC_PF_ACK,
	msr::mtrr_default_type, msr::mtrr_fix_64k, msr::mtrr_fix_16k_80000,
	msr::mtrr_fix_16k_a0000, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200, 0x201, 0x202,
	0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f};

constexpr u32 features[] = {msr::arch_capabilities, msr::microcode_revision, msr::perf_capabilities};

} // namespace

std::span<const u32> saved_msrs()
{
	return saved;
}

std::span<const u32> feature_msrs()
{
	return features;
}

std::optional<u64> read_feature_msr(const machine::Hypervisor &hypervisor, u32 index)
{
	switch (index) {
	case msr::arch_capabilities: return hypervisor.arch_capabilities();
	case msr::microcode_revision: return machine::MsrValues{}.microcode_revision;
	case msr::perf_capabilities: return 0; // no counters are offered
	default: return {};
	}
}

} // namespace kvmpp::run
