// SPDX-License-Identifier: GPL-2.0-only
// How the VMM debugs its guest: KVM_SET_GUEST_DEBUG. Belongs to the vCPU's thread.
#pragma once

#include <array>
#include <optional>
#include <linux/kvm.h>
#include "x86/registers.h"

namespace kvmpp::machine
{

struct Debugger {
	static constexpr u32 known = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
				     KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB |
				     KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ;

	u32 control = 0; // KVM_GUESTDBG_*; 0: nobody debugs
	// In the processor instead of the guest's, with KVM_GUESTDBG_USE_HW_BP.
	std::array<u64, 4> address{};
	u64 dr7 = 0;

	// The guest's own single-step flag, while the debugger has set it for an entry.
	bool guests_trap_flag = false;
	// A step that was made in software is to be reported.
	bool stepped = false;

	bool steps() const { return control & KVM_GUESTDBG_SINGLESTEP; }
	bool has_breakpoints() const { return control & KVM_GUESTDBG_USE_HW_BP; }
	bool takes_int3() const { return control & KVM_GUESTDBG_USE_SW_BP; }
	bool blocks_interrupts() const { return control & KVM_GUESTDBG_BLOCKIRQ; }
	bool takes_debug_exceptions() const { return steps() || has_breakpoints(); }
};

} // namespace kvmpp::machine
