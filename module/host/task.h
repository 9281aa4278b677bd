// SPDX-License-Identifier: GPL-2.0-only
// The calling thread: blocking, waking, pending work.
#pragma once

#include "host/lock.h"
#include "host/result.h"
#include "host/seam.h"

namespace kvmpp::host
{

// Blocks one thread at a time until woken for a reason.
class Waiter : Pinned {
    public:
	Waiter() { kvmpp_waiter_init(&storage_); }

	// Returns when ready() holds or a signal is pending. ready() runs with preemption on; it is
	// asked again after every wake.
	template <class Ready>
	void wait(const Ready &ready)
	{
		kvmpp_wait(
			&storage_,
			[](void *context) -> int { return (*static_cast<const Ready *>(context))(); },
			const_cast<Ready *>(&ready));
	}
	// Any context.
	void wake() { kvmpp_wake(&storage_); }

    private:
	kvmpp_waiter storage_;
};

// Interrupts stay off for its lifetime.
class InterruptsOff : Pinned {
    public:
	InterruptsOff() : flags_{kvmpp_irq_save()} {}
	~InterruptsOff() { kvmpp_irq_restore(flags_); }

    private:
	const unsigned long flags_;
};

// The thread stays on its CPU for its lifetime.
class PreemptionOff : Pinned {
    public:
	PreemptionOff() { kvmpp_preempt_disable(); }
	~PreemptionOff() { kvmpp_preempt_enable(); }
};

} // namespace kvmpp::host
