// SPDX-License-Identifier: GPL-2.0-only
// Time of the simulated host: it stands still until a test moves it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::sim
{

struct Timer {
	kvmpp_timer_callback callback;
	void *context;
	u64 expiry;
	bool queued;
	bool restarted; // started again while its callback ran
};

class Clock {
public:
	static constexpr u32 tsc_khz = 2'000'000;

	u64 now() const;
	u64 tsc() const { return now() * (tsc_khz / 1'000'000); }

	// Moves time on, through every timer's expiry in between, in order.
	void advance(u64 ns) { move(ns, true); }
	// Moves time on at once, as if the host had not run meanwhile; timers that are due fire
	// late.
	void jump(u64 ns) { move(ns, false); }

	// How many callbacks have run so far.
	u64 fired() const;
	// Expiry of the timer that is due first; 0: none is queued.
	u64 next_expiry() const;

	// Back to the start, without timers.
	void reset();

	void start(Timer &timer, u64 expiry);
	void cancel(Timer &timer);

private:
	void move(u64 ns, bool stepwise);
	Timer *first_due(u64 until) const;

	mutable std::mutex mutex_;
	std::condition_variable finished_;
	std::vector<Timer *> queue_;
	Timer *running_ = nullptr;
	std::thread::id running_in_;
	static constexpr u64 start_of_time = 1'000'000'000; // not 0: a time of 0 is seen to be none
	u64 now_ = start_of_time;
	u64 fired_ = 0;
};

Clock &clock();

} // namespace kvmpp::sim
