// SPDX-License-Identifier: GPL-2.0-only
// The calling thread: blocking, waking, pending work; and others that it gives way to.
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

// A thread that others can let run before them. It names itself.
class NamedThread : Pinned {
    public:
	NamedThread() = default;
	~NamedThread() { kvmpp_thread_put(thread_); }

	// From now on it is the caller; only one thread at a time calls this.
	void take_current()
	{
		if (kvmpp_thread_is_current(thread_)) [[likely]]
			return;
		kvmpp_thread *const fresh = kvmpp_thread_current();
		kvmpp_thread_put(exchange(fresh));
	}
	// Any other thread, with no spinlock held. False: it does not wait for a CPU.
	bool yield_to()
	{
		kvmpp_thread *const thread = get();
		const bool yielded = thread && kvmpp_thread_yield_to(thread);
		kvmpp_thread_put(thread);
		return yielded;
	}

    private:
	kvmpp_thread *exchange(kvmpp_thread *fresh)
	{
		SpinLock::Guard guard{lock_};
		return std::exchange(thread_, fresh);
	}
	kvmpp_thread *get()
	{
		SpinLock::Guard guard{lock_};
		return thread_ ? kvmpp_thread_get(thread_) : nullptr;
	}

	SpinLock lock_{LockClass::named_thread};
	kvmpp_thread *thread_ = nullptr;
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
