// SPDX-License-Identifier: GPL-2.0-only
// What a VM does only because its VMM asked (KVM_ENABLE_CAP). Small enough to be read at once, without a
// lock.
#pragma once

#include <linux/kvm.h>
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::machine
{

struct alignas(u64) VmOptions {
	bool exception_payload : 1 = false;	    // KVM_CAP_EXCEPTION_PAYLOAD
	bool triple_fault_event : 1 = false;	    // KVM_CAP_X86_TRIPLE_FAULT_EVENT
	bool exit_on_emulation_failure : 1 = false; // KVM_CAP_EXIT_ON_EMULATION_FAILURE
	bool filters_msrs : 1 = false;		    // KVM_X86_SET_MSR_FILTER
	bool hides_platform_info : 1 = false;	    // KVM_CAP_MSR_PLATFORM_INFO
	bool exits_on_bus_lock : 1 = false;	    // KVM_CAP_X86_BUS_LOCK_EXIT
	// KVM_CAP_X86_NOTIFY_VMEXIT: whether a guest that keeps interrupts out for longer than the window
	// exits, and whether the VMM hears of it.
	bool notifies : 1 = false, notifies_vmm : 1 = false;
	u8 user_msr_reasons = 0;		    // KVM_CAP_X86_USER_SPACE_MSR
	u8 disabled_quirks = 0;			    // KVM_CAP_DISABLE_QUIRKS2
	u8 disabled_exits = 0;			    // KVM_CAP_X86_DISABLE_EXITS; before vCPUs run
	u32 notify_window = 0;			    // as the processor counts it

	// Habits of KVM that VMMs can do without (KVM API, 7.31); those that there are here.
	static constexpr u64 known_quirks = KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |
					    KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT |
					    KVM_X86_QUIRK_FIX_HYPERCALL_INSN |
					    KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS;
	// Of what the guest waits with, which then is its own affair, and its reads of how long CPUs slept.
	static u64 known_exits()
	{
		return KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE |
		       (kvmpp_mwait_usable() ? KVM_X86_DISABLE_EXITS_MWAIT : 0);
	}
	bool exits_on(u64 what) const { return !(disabled_exits & what); }
	bool has_quirk(u64 quirk) const { return !(disabled_quirks & quirk); }
};

static_assert(sizeof(VmOptions) == sizeof(u64));

} // namespace kvmpp::machine
