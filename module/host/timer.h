// SPDX-License-Identifier: GPL-2.0-only
// Clocks and one timer. Times are nanoseconds.
#pragma once

#include "host/lock.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::host
{

inline u64 monotonic_ns()
{
	return kvmpp_monotonic_ns();
}

inline u64 tsc()
{
	return kvmpp_tsc();
}

// A timer on the monotonic clock. The callback runs in hard interrupt context, gets the time, and
// returns the next expiry or 0. Destruction waits for a running callback.
class Timer : Pinned {
    public:
	using Callback = kvmpp_timer_callback;

	Timer(Callback callback, void *context) { kvmpp_timer_init(&storage_, callback, context); }
	~Timer() { cancel(); }

	// Process context or with interrupts off, never from its own callback.
	void start(u64 expiry) { kvmpp_timer_start(&storage_, expiry); }
	// Waits for a running callback, so not under a lock that the callback takes.
	void cancel() { kvmpp_timer_cancel(&storage_); }

    private:
	kvmpp_timer storage_;
};

} // namespace kvmpp::host
