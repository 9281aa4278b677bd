// SPDX-License-Identifier: GPL-2.0-only
// System management mode: the way in, by an SMI, and out, by RSM. SDM vol. 3, chapter 31.
#pragma once

#include <optional>
#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// An SMI waits, and neither SMM nor a debugger holds it off.
inline bool smi_allowed(const Vcpu &vcpu)
{
	return vcpu.events.smi && !vcpu.smm.active && !vcpu.debugger.blocks_interrupts();
}

// Enters SMM if an SMI is allowed and no event is on its way into the guest already, which comes first.
// ENOMEM. May sleep.
Result<> take_smi(Vcpu &vcpu, vmx::Current vmcs);

// What RSM leaves to be done when the instruction is complete.
struct Resumed {
	x86::Gprs gprs;
	u64 rip, rflags;
	u32 shadow; // vmx::blocking
	bool unblocks_nmis, halts;
};
// The guest is in SMM and executes RSM. Nothing: it is shut down.
std::optional<Resumed> leave_smm(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
