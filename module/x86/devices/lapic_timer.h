// SPDX-License-Identifier: GPL-2.0-only
// The timer of a local APIC: one-shot, periodic and TSC-deadline (SDM vol. 3, 11.5.4), counting at
// 1 GHz as KVM's does.
#pragma once

#include <atomic>
#include "host/timer.h"
#include "host/types.h"
#include "x86/devices/callback.h"

namespace kvmpp::x86
{

// What the guest's TSC reads at one moment of the monotonic clock, and the length of a tick in
// units of 2^-32 ns.
struct TscMoment {
	u64 tsc = 0;
	u64 now = 0;
	u64 tick = 0;
};

constexpr u64 tsc_tick(u32 khz)
{
	return khz ? (u64{1'000'000} << 32) / khz : ~u64{0};
}

// When the guest's TSC reaches `deadline`; not before now, and never past what a clock can show.
u64 time_of_tsc(u64 deadline, const TscMoment &moment);

// All methods belong to the owner (the vCPU's thread, or who holds the vCPU still). The host
// timer's callback runs beside it and shares: expiry_ (atomic), and mode_ and period_, which the
// owner changes only while the host timer is cancelled. No lock.
class LapicTimer : host::Pinned {
public:
	enum class Mode : u8 { one_shot, periodic, tsc_deadline };

	// KVM's bound for periods: a guest must not keep the host busy with its ticks.
	static constexpr u64 default_min_period = 200'000;

	// `expired` is called in hard interrupt context, once for any number of periods.
	LapicTimer(Callback<void()> expired, u64 min_period);

	Mode mode() const { return mode_; }
	u64 tsc_deadline() const { return tsc_deadline_; }
	// Time of the next expiry; 0: not running.
	u64 expiry() const { return expiry_.load(std::memory_order_relaxed); }
	u32 current_count() const;

	// Holds the host timer, so that no callback runs until one of the calls below. What expired
	// before is the caller's to deliver first.
	void hold();
	// These require hold() before.
	void set_mode(Mode mode);
	void set_divide(u32 divide_configuration);
	// `remaining` of `initial` ticks are left; a periodic timer with none starts a new period.
	void start(u32 initial, u32 remaining);
	// True when the deadline has passed already: the timer expired and is disarmed. Of the moment
	// only the TSC is looked at while the processor watches.
	[[nodiscard]] bool set_tsc_deadline(u64 deadline, const TscMoment &moment);
	// Goes on with a deadline that another of these had, expiring then.
	void continue_deadline(u64 deadline, u64 expiry);
	void stop();
	void resume() { arm(); }

	// The caller has seen `expired`.
	void acknowledge();

	// Who watches a TSC deadline: the host timer, or the processor that runs the guest, where
	// somebody has to call expire_deadline() then. A vCPU that sleeps needs the host timer.
	// hold() before; true when the deadline has passed already.
	void let_processor_watch() { processor_watches_ = true; }
	[[nodiscard]] bool let_host_watch(const TscMoment &moment);
	bool processor_watches() const { return processor_watches_; }
	// True when it has passed, by the guest's TSC.
	[[nodiscard]] bool expire_deadline(u64 tsc);

private:
	static u64 tick(void *context, u64 now);
	u64 after(u64 expiry, u64 now) const;
	void set_period();
	void arm();

	std::atomic<u64> expiry_{0};
	u64 period_ = 0; // ns; of one run for a one-shot timer
	u64 tsc_deadline_ = 0;
	u64 min_period_;
	u32 initial_ = 0;
	u8 shift_ = 1; // log2 of the divisor
	Mode mode_ = Mode::one_shot;
	bool processor_watches_ = false;
	bool armed_ = false; // the host timer may call back
	Callback<void()> expired_;
	host::Timer timer_; // last: its destructor waits for the callback
};

} // namespace kvmpp::x86
