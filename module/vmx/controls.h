// SPDX-License-Identifier: GPL-2.0-only
// Bits of the VM-execution, VM-exit and VM-entry controls. SDM vol. 3, 25.6 to 25.8.
#pragma once

#include "host/types.h"

namespace kvmpp::vmx
{

namespace pin
{
inline constexpr u32 external_interrupt_exiting = 1u << 0, nmi_exiting = 1u << 3, virtual_nmis = 1u << 5,
		     preemption_timer = 1u << 6, posted_interrupts = 1u << 7;
}

namespace primary
{
inline constexpr u32 interrupt_window_exiting = 1u << 2, tsc_offsetting = 1u << 3, hlt_exiting = 1u << 7,
		     invlpg_exiting = 1u << 9, mwait_exiting = 1u << 10, rdpmc_exiting = 1u << 11,
		     rdtsc_exiting = 1u << 12, cr3_load_exiting = 1u << 15, cr3_store_exiting = 1u << 16,
		     cr8_load_exiting = 1u << 19, cr8_store_exiting = 1u << 20, tpr_shadow = 1u << 21,
		     nmi_window_exiting = 1u << 22, mov_dr_exiting = 1u << 23,
		     unconditional_io_exiting = 1u << 24, io_bitmaps = 1u << 25, monitor_trap = 1u << 27,
		     msr_bitmaps = 1u << 28, monitor_exiting = 1u << 29, pause_exiting = 1u << 30,
		     secondary_controls = 1u << 31;
}

namespace secondary
{
inline constexpr u32 virtual_apic_accesses = 1u << 0, ept = 1u << 1, descriptor_table_exiting = 1u << 2,
		     rdtscp = 1u << 3, virtual_x2apic = 1u << 4, vpid = 1u << 5, wbinvd_exiting = 1u << 6,
		     unrestricted_guest = 1u << 7, apic_register_virtualization = 1u << 8,
		     virtual_interrupt_delivery = 1u << 9, pause_loop_exiting = 1u << 10,
		     rdrand_exiting = 1u << 11, invpcid = 1u << 12, rdseed_exiting = 1u << 16, pml = 1u << 17,
		     xsaves = 1u << 20, tsc_scaling = 1u << 25, user_wait_pause = 1u << 26,
		     bus_lock_detection = 1u << 30, notify_exiting = 1u << 31;

// What a guest's local APIC may use, by its mode (SDM vol. 3, chapter 30).
inline constexpr u32 apic_virtualization =
	virtual_apic_accesses | virtual_x2apic | apic_register_virtualization | virtual_interrupt_delivery;
// The part that only comes with all the rest.
inline constexpr u32 apic_delivery = virtual_x2apic | virtual_interrupt_delivery;
}

namespace exit_control
{
inline constexpr u32 save_debug_controls = 1u << 2, host_64bit = 1u << 9, load_perf_global = 1u << 12,
		     acknowledge_interrupt = 1u << 15, save_pat = 1u << 18, load_pat = 1u << 19,
		     save_efer = 1u << 20, load_efer = 1u << 21, save_preemption_timer = 1u << 22;
}

namespace entry_control
{
inline constexpr u32 load_debug_controls = 1u << 2, ia32e_guest = 1u << 9, load_perf_global = 1u << 13,
		     load_pat = 1u << 14, load_efer = 1u << 15;
}

} // namespace kvmpp::vmx
