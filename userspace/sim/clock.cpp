// SPDX-License-Identifier: GPL-2.0-only
// Time of the simulated host, and its timers.
#include "sim/clock.h"

#include <algorithm>
#include <utility>
#include "sim/host.h"

namespace kvmpp::sim
{

Clock &clock()
{
	static Clock instance;
	return instance;
}

u64 Clock::now() const
{
	std::lock_guard guard{mutex_};
	return now_;
}

u64 Clock::fired() const
{
	std::lock_guard guard{mutex_};
	return fired_;
}

u64 Clock::next_expiry() const
{
	std::lock_guard guard{mutex_};
	const Timer *timer = first_due(~u64{0});
	return timer ? timer->expiry : 0;
}

Timer *Clock::first_due(u64 until) const
{
	const auto first = std::min_element(queue_.begin(), queue_.end(),
		[](const Timer *a, const Timer *b) { return a->expiry < b->expiry; });
	return first != queue_.end() && (*first)->expiry <= until ? *first : nullptr;
}

void Clock::reset()
{
	std::lock_guard guard{mutex_};
	if (!queue_.empty() || running_)
		die("the clock is reset while timers are armed");
	now_ = start_of_time;
}

void Clock::start(Timer &timer, u64 expiry)
{
	std::lock_guard guard{mutex_};
	if (running_ == &timer) {
		if (running_in_ == std::this_thread::get_id())
			die("a timer is started from its own callback");
		timer.restarted = true;
	}
	timer.expiry = expiry;
	if (!std::exchange(timer.queued, true))
		queue_.push_back(&timer);
}

void Clock::cancel(Timer &timer)
{
	std::unique_lock guard{mutex_};
	if (running_ == &timer) {
		if (running_in_ == std::this_thread::get_id())
			die("a timer is cancelled from its own callback");
		finished_.wait(guard, [&] { return running_ != &timer; });
	}
	if (std::exchange(timer.queued, false))
		std::erase(queue_, &timer);
}

void Clock::move(u64 ns, bool stepwise)
{
	std::unique_lock guard{mutex_};
	const u64 end = now_ + ns;
	if (!stepwise)
		now_ = end;
	while (Timer *timer = first_due(end)) {
		now_ = std::max(now_, timer->expiry);
		timer->queued = false;
		timer->restarted = false;
		std::erase(queue_, timer);
		running_ = timer;
		running_in_ = std::this_thread::get_id();
		++fired_;
		const u64 now = now_;
		guard.unlock();
		u64 next;
		{
			Atomic interrupt;
			next = timer->callback(timer->context, now);
		}
		guard.lock();
		if (next && timer->restarted)
			die("a timer was started while its callback asked for another expiry");
		if (next) {
			timer->expiry = next;
			timer->queued = true;
			queue_.push_back(timer);
		}
		running_ = nullptr;
		finished_.notify_all();
	}
	now_ = std::max(now_, end);
}

} // namespace kvmpp::sim

using namespace kvmpp;

__u64 kvmpp_tsc(void)
{
	return sim::clock().tsc();
}

__u64 kvmpp_tsc_adjustment(void)
{
	return 0;
}

__u32 kvmpp_tsc_khz(void)
{
	return sim::Clock::tsc_khz;
}

int kvmpp_tsc_reliable(void)
{
	return 1;
}

__u64 kvmpp_monotonic_ns(void)
{
	return sim::clock().now();
}

__u64 kvmpp_boottime_ns(void)
{
	return sim::clock().now();
}

__u64 kvmpp_realtime_ns(void)
{
	constexpr u64 year_2024 = 1'704'067'200'000'000'000;
	return year_2024 + sim::clock().now();
}

void kvmpp_timer_init(kvmpp_timer *timer, kvmpp_timer_callback callback, void *context)
{
	sim::construct_in<sim::Timer>(timer, callback, context, u64{0}, false, false);
}

void kvmpp_timer_start(kvmpp_timer *timer, __u64 expiry)
{
	sim::clock().start(sim::object_in<sim::Timer>(timer), expiry);
}

void kvmpp_timer_cancel(kvmpp_timer *timer)
{
	sim::clock().cancel(sim::object_in<sim::Timer>(timer));
}
