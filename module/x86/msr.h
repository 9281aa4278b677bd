// SPDX-License-Identifier: GPL-2.0-only
// Numbers and bits of model-specific registers. SDM vol. 4, chapter 2. Paravirtual ones are the
// UAPI's (asm/kvm_para.h).
#pragma once

#include "host/types.h"

namespace kvmpp::x86::msr
{

inline constexpr u32 p5_mc_addr = 0x0, p5_mc_type = 0x1, tsc = 0x10, platform_id = 0x17, apic_base = 0x1b,
		     smi_count = 0x34, ebl_cr_poweron = 0x2a, feature_control = 0x3a, tsc_adjust = 0x3b, spec_ctrl = 0x48,
		     pred_cmd = 0x49, microcode_update = 0x79, microcode_revision = 0x8b, smbase = 0x9e,
		     pmc0 = 0xc1, fsb_freq = 0xcd, platform_info = 0xce, mtrr_cap = 0xfe,
		     arch_capabilities = 0x10a, flush_cmd = 0x10b, bbl_cr_ctl3 = 0x11e, tsx_ctrl = 0x122,
		     misc_features_enables = 0x140, sysenter_cs = 0x174, sysenter_esp = 0x175,
		     sysenter_eip = 0x176, mcg_cap = 0x179, mcg_status = 0x17a, mcg_ctl = 0x17b,
		     perfevtsel0 = 0x186, perf_status = 0x198, perf_ctl = 0x199, therm_control = 0x19a,
		     therm_interrupt = 0x19b, therm_status = 0x19c, thermal2_ctl = 0x19d,
		     misc_enable = 0x1a0, perf_capabilities = 0x345, power_ctl = 0x1fc, debugctl = 0x1d9, last_branch_from = 0x1db, last_branch_to = 0x1dc,
		     last_interrupt_from = 0x1dd, last_interrupt_to = 0x1de, mtrr_phys_base0 = 0x200,
		     mtrr_fix_64k = 0x250, mtrr_fix_16k_80000 = 0x258, mtrr_fix_16k_a0000 = 0x259,
		     mtrr_fix_4k_c0000 = 0x268, mtrr_fix_4k_f8000 = 0x26f, pat = 0x277,
		     mtrr_default_type = 0x2ff,
		     core_c3_residency = 0x3fc, core_c6_residency = 0x3fd, core_c7_residency = 0x3fe,
		     mc0_ctl = 0x400, core_c1_residency = 0x660, tsc_deadline = 0x6e0, 
		     xss = 0xda0, efer = 0xc0000080, star = 0xc0000081,
		     lstar = 0xc0000082, cstar = 0xc0000083, syscall_mask = 0xc0000084, fs_base = 0xc0000100,
		     gs_base = 0xc0000101, kernel_gs_base = 0xc0000102, tsc_aux = 0xc0000103;

// Capability reporting of VMX (SDM vol. 3, appendix A).
inline constexpr u32 vmx_basic = 0x480, vmx_pin = 0x481, vmx_primary = 0x482, vmx_exit = 0x483,
		     vmx_entry = 0x484, vmx_misc = 0x485, vmx_cr0_fixed0 = 0x486, vmx_cr0_fixed1 = 0x487,
		     vmx_cr4_fixed0 = 0x488, vmx_cr4_fixed1 = 0x489, vmx_secondary = 0x48b,
		     vmx_ept_vpid = 0x48c, vmx_true_pin = 0x48d, vmx_true_primary = 0x48e,
		     vmx_true_exit = 0x48f, vmx_true_entry = 0x490;

namespace feature_control_bits
{
inline constexpr u64 locked = 1 << 0, vmx_in_smx = 1 << 1, vmx_outside_smx = 1 << 2;
}

namespace apic_base_bits
{
inline constexpr u64 bsp = 1 << 8, x2apic = 1 << 10, enable = 1 << 11;
inline constexpr u64 default_address = 0xfee00000;
}

} // namespace kvmpp::x86::msr
