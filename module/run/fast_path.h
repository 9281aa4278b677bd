// SPDX-License-Identifier: GPL-2.0-only
// Exits that a few instructions answer: the guest goes on at once, with interrupts off all the time. An entry
// and an exit cost less than what else KVM_RUN does around them.
//
// The host waits for no more than one such answer: what it wants of this CPU comes as an interrupt, or with
// one (a kick), which ends the next entry before the guest's first instruction.
#pragma once

#include "run/handlers.h"

namespace kvmpp::run
{

enum class FastPath : u8 {
	not_taken, // nothing has happened: for dispatch()
	again,	   // done, and nothing keeps the guest from going on
	done,	   // done, but something waits for the guest, or for its next entry
};

// Whether this entry's exits may come here: nobody wants to look at each of them.
inline bool fast_path_open(const Vcpu &vcpu)
{
	return !vcpu.debugger.control && !vcpu.task_priority.shared.value;
}

// All but CPUID, by handlers that neither sleep nor look into the guest's memory. False: nothing has happened.
bool answer_fast(Exit &exit);

// Interrupts off.
inline FastPath take_fast_path(Exit &exit)
{
	const Vcpu &vcpu = exit.vcpu;
	// With a bit for what else has happened it is not so short.
	if (exit.reason.raw >> 16)
		return FastPath::not_taken;
	if (exit.reason.basic() == vmx::ExitReason::cpuid)
		(void)handle_cpuid(exit);
	else if (!answer_fast(exit))
		return FastPath::not_taken;
	// What choose_event(), serve_requests() and the VMM are for.
	if (vcpu.events.exception || vcpu.mailbox.requested() || vcpu.dirty_ring.soft_full())
		return FastPath::done;
	if (vcpu.lapic && (vcpu.lapic->attention() || vcpu.lapic->injectable()))
		return FastPath::done;
	return FastPath::again;
}

} // namespace kvmpp::run
