// SPDX-License-Identifier: GPL-2.0-only
// The fields of the VMCS that kvmpp uses, in the order of SDM vol. 3, appendix B.
#pragma once

#include "vmx/event.h"
#include "vmx/exit_reason.h"
#include "vmx/field.h"
#include "x86/registers.h"

namespace kvmpp::vmx
{

// What virtual-interrupt delivery goes by: the highest vector requested and the highest in service, 0
// for none. SDM vol. 3, 25.4.2.
struct InterruptStatus {
	u8 requesting = 0, in_service = 0;
};

} // namespace kvmpp::vmx

namespace kvmpp::vmx::field
{

using x86::AccessRights;

// B.1 16-bit
inline constexpr Control16<0> vpid;
inline constexpr Control16<1> posted_interrupt_vector;
// Selectors, base, limits and access rights of segments: see segment_fields below.
inline constexpr Guest16<8, InterruptStatus> guest_interrupt_status;
inline constexpr Guest16<9> page_log_index;
inline constexpr Host16<0> host_es;
inline constexpr Host16<1> host_cs;
inline constexpr Host16<2> host_ss;
inline constexpr Host16<3> host_ds;
inline constexpr Host16<4> host_fs;
inline constexpr Host16<5> host_gs;
inline constexpr Host16<6> host_tr;

// B.2 64-bit
inline constexpr Control64<0, Hpa> io_bitmap_a;
inline constexpr Control64<1, Hpa> io_bitmap_b;
inline constexpr Control64<2, Hpa> msr_bitmap;
inline constexpr Control64<3, Hpa> exit_msr_store;
inline constexpr Control64<4, Hpa> exit_msr_load;
inline constexpr Control64<5, Hpa> entry_msr_load;
inline constexpr Control64<7, Hpa> page_log;
inline constexpr Control64<8> tsc_offset;
inline constexpr Control64<9, Hpa> virtual_apic_page;
inline constexpr Control64<10, Hpa> apic_access_page;
inline constexpr Control64<13> ept_pointer;
inline constexpr Control64<14> eoi_exit_bitmap0;
inline constexpr Control64<15> eoi_exit_bitmap1;
inline constexpr Control64<16> eoi_exit_bitmap2;
inline constexpr Control64<17> eoi_exit_bitmap3;
inline constexpr Control64<22> xss_exiting_bitmap;
inline constexpr Control64<25> tsc_multiplier;
inline constexpr Exit64<0, Gpa> guest_physical_address;
inline constexpr Guest64<0> vmcs_link_pointer;
inline constexpr Guest64<1> guest_debugctl;
inline constexpr Guest64<2> guest_pat;
inline constexpr Guest64<3> guest_efer;
inline constexpr Guest64<5> guest_pdpte0;
inline constexpr Guest64<6> guest_pdpte1;
inline constexpr Guest64<7> guest_pdpte2;
inline constexpr Guest64<8> guest_pdpte3;
inline constexpr Host64<0> host_pat;
inline constexpr Host64<1> host_efer;

// B.3 32-bit
inline constexpr Control32<0> pin_controls;
inline constexpr Control32<1> primary_controls;
inline constexpr Control32<2> exception_bitmap;
inline constexpr Control32<3> page_fault_code_mask;
inline constexpr Control32<4> page_fault_code_match;
inline constexpr Control32<5> cr3_target_count;
inline constexpr Control32<6> exit_controls;
inline constexpr Control32<7> exit_msr_store_count;
inline constexpr Control32<8> exit_msr_load_count;
inline constexpr Control32<9> entry_controls;
inline constexpr Control32<10> entry_msr_load_count;
inline constexpr Control32<11, EventInfo> entry_event;
inline constexpr Control32<12> entry_event_error_code;
inline constexpr Control32<13> entry_instruction_length;
inline constexpr Control32<14> tpr_threshold;
inline constexpr Control32<15> secondary_controls;
inline constexpr Control32<16> ple_gap;
inline constexpr Control32<17> ple_window;
inline constexpr Control32<18> notify_window;
inline constexpr Exit32<0> instruction_error;
inline constexpr Exit32<1, ExitReasonField> exit_reason;
inline constexpr Exit32<2, EventInfo> exit_event;
inline constexpr Exit32<3> exit_event_error_code;
inline constexpr Exit32<4, EventInfo> vectoring_event;
inline constexpr Exit32<5> vectoring_event_error_code;
inline constexpr Exit32<6> exit_instruction_length;
inline constexpr Exit32<7> exit_instruction_info;
inline constexpr Guest32<8> guest_gdtr_limit;
inline constexpr Guest32<9> guest_idtr_limit;
inline constexpr Guest32<18> guest_interruptibility;
inline constexpr Guest32<19> guest_activity;
inline constexpr Guest32<21> guest_sysenter_cs;
inline constexpr Guest32<23> preemption_timer;
inline constexpr Host32<0> host_sysenter_cs;

// B.4 natural width
inline constexpr ControlNatural<0> cr0_guest_host_mask;
inline constexpr ControlNatural<1> cr4_guest_host_mask;
inline constexpr ControlNatural<2> cr0_read_shadow;
inline constexpr ControlNatural<3> cr4_read_shadow;
inline constexpr ExitNatural<0> exit_qualification;
inline constexpr ExitNatural<5, Gva> guest_linear_address;
inline constexpr GuestNatural<0> guest_cr0;
inline constexpr GuestNatural<1> guest_cr3;
inline constexpr GuestNatural<2> guest_cr4;
inline constexpr GuestNatural<11> guest_gdtr_base;
inline constexpr GuestNatural<12> guest_idtr_base;
inline constexpr GuestNatural<13> guest_dr7;
inline constexpr GuestNatural<14> guest_rsp;
inline constexpr GuestNatural<15> guest_rip;
inline constexpr GuestNatural<16> guest_rflags;
inline constexpr GuestNatural<17> guest_pending_debug;
inline constexpr GuestNatural<18> guest_sysenter_esp;
inline constexpr GuestNatural<19> guest_sysenter_eip;
inline constexpr HostNatural<0> host_cr0;
inline constexpr HostNatural<1> host_cr3;
inline constexpr HostNatural<2> host_cr4;
inline constexpr HostNatural<3> host_fs_base;
inline constexpr HostNatural<4> host_gs_base;
inline constexpr HostNatural<5> host_tr_base;
inline constexpr HostNatural<6> host_gdtr_base;
inline constexpr HostNatural<7> host_idtr_base;
inline constexpr HostNatural<8> host_sysenter_esp;
inline constexpr HostNatural<9> host_sysenter_eip;
inline constexpr HostNatural<10> host_rsp;
inline constexpr HostNatural<11> host_rip;

// The eight segment registers have their fields in one order, that of x86::SegmentName.
template <x86::SegmentName name>
struct SegmentFields {
	static constexpr unsigned index = static_cast<unsigned>(name);
	static constexpr Guest16<index> selector{};
	static constexpr Guest32<index> limit{};
	static constexpr Guest32<index + 10, AccessRights> rights{};
	// The natural-width bases begin behind CR0, CR3 and CR4.
	static constexpr GuestNatural<index + 3> base{};
};

// Spot checks against the tables of appendix B.
static_assert(vpid.encoding == 0x0000 && host_tr.encoding == 0x0c0c);
static_assert(ept_pointer.encoding == 0x201a && eoi_exit_bitmap3.encoding == 0x2022);
static_assert(page_log.encoding == 0x200e && page_log_index.encoding == 0x0812);
static_assert(guest_physical_address.encoding == 0x2400);
static_assert(tsc_multiplier.encoding == 0x2032 && guest_pdpte3.encoding == 0x2810);
static_assert(secondary_controls.encoding == 0x401e && exit_reason.encoding == 0x4402);
static_assert(preemption_timer.encoding == 0x482e && guest_interruptibility.encoding == 0x4824);
static_assert(SegmentFields<x86::SegmentName::tr>::rights.encoding == 0x4822);
static_assert(SegmentFields<x86::SegmentName::tr>::base.encoding == 0x6814);
static_assert(guest_linear_address.encoding == 0x640a && host_rip.encoding == 0x6c16);
static_assert(guest_rip.encoding == 0x681e && guest_sysenter_eip.encoding == 0x6826);

} // namespace kvmpp::vmx::field
