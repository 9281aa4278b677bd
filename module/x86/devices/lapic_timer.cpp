// SPDX-License-Identifier: GPL-2.0-only
// The timer of a local APIC.
#include "x86/devices/lapic_timer.h"

#include <algorithm>

namespace kvmpp::x86
{

namespace
{
constexpr u64 end_of_time = bits(62, 0);
}

u64 time_of_tsc(u64 deadline, const TscMoment &moment)
{
	if (deadline <= moment.tsc)
		return moment.now;
	using Wide = unsigned __int128;
	const Wide time = (Wide{deadline - moment.tsc} * moment.tick >> 32) + moment.now;
	return time < end_of_time ? static_cast<u64>(time) : end_of_time;
}

LapicTimer::LapicTimer(Callback<void()> expired, u64 min_period)
	: min_period_{min_period}, expired_{expired}, timer_{&LapicTimer::tick, this}
{}

u32 LapicTimer::current_count() const
{
	const u64 at = expiry(), now = host::monotonic_ns();
	if (mode_ == Mode::tsc_deadline || !at)
		return 0;
	u64 left = at > now ? at - now : 0;
	if (!left && mode_ == Mode::periodic)
		left = period_ - (now - at) % period_; // the callback is late
	return static_cast<u32>(std::min<u64>(left >> shift_, initial_));
}

void LapicTimer::hold()
{
	if (!armed_)
		return;
	timer_.cancel();
	armed_ = false;
}

void LapicTimer::set_mode(Mode mode)
{
	if (mode == mode_)
		return arm();
	// Switching to or from TSC-deadline mode disarms the timer (SDM vol. 3, 11.5.4.1).
	if ((mode == Mode::tsc_deadline) != (mode_ == Mode::tsc_deadline))
		stop();
	mode_ = mode;
	set_period();
	arm();
}

void LapicTimer::set_divide(u32 divide_configuration)
{
	// Bits 3, 1 and 0: 0 divides by 2, 6 by 128, 7 by 1 (SDM vol. 3, figure 11-10).
	const unsigned value = (divide_configuration & 3) | (divide_configuration >> 1 & 4);
	const u8 shift = (value + 1) & 7;
	if (const u64 at = expiry(); at && mode_ != Mode::tsc_deadline) {
		// What is left to count stays; its ticks change their length.
		const u64 now = host::monotonic_ns();
		const u64 ticks = at > now ? (at - now) >> shift_ : 0;
		expiry_.store(now + (ticks << shift), std::memory_order_relaxed);
	}
	shift_ = shift;
	set_period();
	arm();
}

void LapicTimer::start(u32 initial, u32 remaining)
{
	if (mode_ == Mode::tsc_deadline)
		return;
	stop();
	initial_ = initial;
	set_period();
	if (!initial)
		return;
	u64 left = u64{std::min(remaining, initial)} << shift_;
	if (mode_ == Mode::periodic)
		left = left && remaining < initial ? left : period_;
	if (!left)
		return;
	expiry_.store(host::monotonic_ns() + left, std::memory_order_relaxed);
	arm();
}

bool LapicTimer::set_tsc_deadline(u64 deadline, const TscMoment &moment)
{
	stop();
	if (mode_ != Mode::tsc_deadline || !deadline)
		return false;
	if (deadline <= moment.tsc)
		return true;
	tsc_deadline_ = deadline;
	if (processor_watches_)
		return false;
	expiry_.store(time_of_tsc(deadline, moment), std::memory_order_relaxed);
	arm();
	return false;
}

void LapicTimer::continue_deadline(u64 deadline, u64 at)
{
	if (mode_ != Mode::tsc_deadline || !deadline)
		return;
	tsc_deadline_ = deadline;
	expiry_.store(at, std::memory_order_relaxed);
	arm();
}

void LapicTimer::stop()
{
	hold();
	expiry_.store(0, std::memory_order_relaxed);
	initial_ = 0;
	period_ = 0;
	tsc_deadline_ = 0;
}

void LapicTimer::acknowledge()
{
	if (mode_ == Mode::periodic)
		return;
	// The callback has stopped the host timer; at most it is still on its way out.
	armed_ = false;
	expiry_.store(0, std::memory_order_relaxed);
	tsc_deadline_ = 0;
}

bool LapicTimer::let_host_watch(const TscMoment &moment)
{
	processor_watches_ = false;
	return mode_ == Mode::tsc_deadline && set_tsc_deadline(tsc_deadline_, moment);
}

bool LapicTimer::expire_deadline(u64 tsc)
{
	if (!tsc_deadline_ || tsc_deadline_ > tsc)
		return false;
	acknowledge();
	return true;
}

// Regression of CVE-2025-71104: one step, however many periods have passed.
u64 LapicTimer::after(u64 at, u64 now) const
{
	if (now < at)
		return at + period_;
	return now + period_ - (now - at) % period_;
}

u64 LapicTimer::tick(void *context, u64 now)
{
	auto &self = *static_cast<LapicTimer *>(context);
	u64 next = 0;
	if (self.mode_ == Mode::periodic) {
		next = self.after(self.expiry(), now);
		self.expiry_.store(next, std::memory_order_relaxed);
	}
	self.expired_();
	return next;
}

void LapicTimer::set_period()
{
	period_ = u64{initial_} << shift_;
	if (mode_ == Mode::periodic && period_)
		period_ = std::max(period_, min_period_);
}

void LapicTimer::arm()
{
	if (armed_ || !expiry() || (processor_watches_ && mode_ == Mode::tsc_deadline))
		return;
	armed_ = true;
	timer_.start(expiry());
}

} // namespace kvmpp::x86
