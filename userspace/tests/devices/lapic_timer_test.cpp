// SPDX-License-Identifier: GPL-2.0-only
// The timer of a local APIC.
#include <atomic>
#include <chrono>
#include <thread>
#include "tests/devices/apic.h"

namespace kvmpp::tests
{

namespace
{

constexpr u8 vector = 0xef;
constexpr u32 one_shot = vector, periodic = vector | 1 << 17, tsc_deadline = vector | 1 << 18;
constexpr u32 divide_by_1 = 0xb;

struct TimedApic : Apic {
	explicit TimedApic(u32 entry)
	{
		enable();
		write(ApicRegister::divide, divide_by_1);
		write(ApicRegister::lvt_timer, entry);
	}
	void start(u32 count) { write(ApicRegister::initial_count, count); }
	u32 left() { return read(ApicRegister::current_count); }
	// Takes the timer's interrupt and ends it; whether there was one.
	bool ticked()
	{
		const u8 got = take();
		if (got)
			eoi();
		return got == vector;
	}
	TscMoment moment(u64 tsc)
	{
		return {.tsc = tsc, .now = clock().now(), .tick = tsc_tick(2'000'000)};
	}
};

} // namespace

TEST(LapicTimer, OneShotFiresOnce)
{
	TimedApic apic{one_shot};
	apic.start(5 * ms);
	clock().advance(5 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	EXPECT_EQ(apic.left(), 1u);
	clock().advance(1);
	EXPECT_TRUE(apic->attention());
	EXPECT_EQ(apic.wakes, 1u);
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic.left(), 0u);
	clock().advance(100 * ms);
	EXPECT_FALSE(apic.ticked());
	EXPECT_EQ(apic.read(ApicRegister::initial_count), 5 * ms);
}

TEST(LapicTimer, EveryDivisor)
{
	const unsigned divisors[] = {2, 4, 8, 16, 32, 64, 128, 1};
	for (unsigned value = 0; value < 8; ++value) {
		TimedApic apic{one_shot};
		apic.write(ApicRegister::divide, (value & 3) | (value & 4) << 1);
		apic.start(1000);
		clock().advance(1000 * divisors[value] - 1);
		EXPECT_FALSE(apic.ticked()) << divisors[value];
		clock().advance(1);
		EXPECT_TRUE(apic.ticked()) << divisors[value];
	}
}

TEST(LapicTimer, CountsDownAtOneGigahertz)
{
	TimedApic apic{one_shot};
	apic.write(ApicRegister::divide, 0x3); // by 16
	apic.start(1'000'000);
	clock().advance(1600);
	EXPECT_EQ(apic.left(), 999'900u);
	clock().advance(8 * ms);
	EXPECT_EQ(apic.left(), 499'900u);
}

TEST(LapicTimer, ANewDivisorAppliesToWhatIsLeft)
{
	TimedApic apic{one_shot};
	apic.start(2 * ms);
	clock().advance(1 * ms);
	apic.write(ApicRegister::divide, 0x0); // by 2
	EXPECT_EQ(apic.left(), 1 * ms);
	clock().advance(2 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	clock().advance(1);
	EXPECT_TRUE(apic.ticked());
}

TEST(LapicTimer, ANewDivisorAppliesToThePeriodsThatFollow)
{
	TimedApic apic{periodic};
	apic.start(1 * ms);
	apic.write(ApicRegister::divide, 0x0); // by 2
	for (unsigned n = 0; n < 3; ++n) {
		clock().advance(2 * ms - 1);
		EXPECT_FALSE(apic.ticked());
		clock().advance(1);
		EXPECT_TRUE(apic.ticked());
	}
}

TEST(LapicTimer, CountOfZeroStops)
{
	TimedApic apic{periodic};
	apic.start(1 * ms);
	apic.start(0);
	EXPECT_EQ(apic.left(), 0u);
	EXPECT_EQ(apic->timer_expiry(), 0u);
	clock().advance(100 * ms);
	EXPECT_FALSE(apic.ticked());
}

TEST(LapicTimer, AWriteRestarts)
{
	TimedApic apic{one_shot};
	apic.start(2 * ms);
	clock().advance(1 * ms);
	apic.start(2 * ms);
	clock().advance(2 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	clock().advance(1);
	EXPECT_TRUE(apic.ticked());
}

TEST(LapicTimer, PeriodicKeepsItsPhase)
{
	TimedApic apic{periodic};
	apic.start(1 * ms);
	for (unsigned n = 0; n < 10; ++n) {
		clock().advance(1 * ms - 1);
		EXPECT_FALSE(apic.ticked());
		clock().advance(1);
		EXPECT_TRUE(apic.ticked());
	}
	clock().advance(ms / 4);
	EXPECT_EQ(apic.left(), 3 * ms / 4);
}

TEST(LapicTimer, AGuestCannotTickFasterThanTheBound)
{
	TimedApic apic{periodic};
	apic.start(1);
	const u64 before = clock().fired();
	clock().advance(100 * ms);
	EXPECT_EQ(clock().fired() - before, 100 * ms / LapicTimer::default_min_period);
	EXPECT_LE(apic.left(), 1u) << "never more than the guest has set";
}

// A periodic timer whose host did not run for long caught up period by period, with interrupts off.
TEST(LapicTimer, Cve_2025_71104_ALongPauseIsOneTick)
{
	TimedApic apic{periodic};
	apic.start(300'000);
	const u64 before = clock().fired(), start = clock().now();
	constexpr u64 days = u64{7} * 24 * 3600 * 1'000'000'000;
	clock().jump(days + 100'000);
	EXPECT_EQ(clock().fired() - before, 1u);
	EXPECT_TRUE(apic.ticked());
	EXPECT_FALSE(apic.ticked());
	EXPECT_GT(apic->timer_expiry(), clock().now());
	EXPECT_EQ((apic->timer_expiry() - start) % 300'000, 0u) << "in phase";
}

// The divisor of the current count was the guest's initial count, which may be 0.
TEST(LapicTimer, Cve_2013_6367_NothingDividesByZero)
{
	for (u32 entry : {one_shot, periodic, tsc_deadline}) {
		TimedApic apic{entry};
		for (u32 count : {0u, 1u, 0xffffffffu})
			for (u32 next : {one_shot, periodic, tsc_deadline}) {
				apic.start(count);
				EXPECT_LE(apic.left(), count);
				apic.start(0);
				EXPECT_EQ(apic.left(), 0u);
				apic.start(count);
				apic.write(ApicRegister::lvt_timer, next);
				EXPECT_LE(apic.left(), count);
				clock().jump(ms);
				apic.left();
				apic.ticked();
			}
	}
}

TEST(LapicTimer, AMaskedTimerRunsButDoesNotInterrupt)
{
	TimedApic apic{one_shot | 1 << 16};
	apic.start(1 * ms);
	clock().advance(ms / 2);
	EXPECT_EQ(apic.left(), ms / 2);
	clock().advance(ms);
	EXPECT_FALSE(apic.ticked());
	apic.write(ApicRegister::lvt_timer, one_shot);
	EXPECT_FALSE(apic.ticked()) << "it is over";
}

TEST(LapicTimer, WhatHasExpiredIsDeliveredByTheEntryOfItsTime)
{
	TimedApic apic{one_shot};
	apic.start(1 * ms);
	clock().advance(1 * ms);
	apic.write(ApicRegister::lvt_timer, 0x40);
	EXPECT_EQ(apic.take(), vector);
}

TEST(LapicTimer, ARestartDoesNotLoseATickThatCameBefore)
{
	TimedApic apic{one_shot};
	apic.start(1 * ms);
	clock().advance(1 * ms);
	apic.start(5 * ms);
	EXPECT_TRUE(apic.ticked());
	clock().advance(5 * ms);
	EXPECT_TRUE(apic.ticked());
}

TEST(LapicTimer, OneShotBecomesPeriodicWhileItRuns)
{
	TimedApic apic{one_shot};
	apic.start(1 * ms);
	clock().advance(ms / 2);
	apic.write(ApicRegister::lvt_timer, periodic);
	for (unsigned n = 0; n < 3; ++n) {
		clock().advance(n ? ms : ms / 2);
		EXPECT_TRUE(apic.ticked());
	}
}

// --- TSC-deadline (SDM vol. 3, 11.5.4.1)
// ------------------------------------------------------------

TEST(LapicTimer, TimeOfTsc)
{
	const TscMoment moment{.tsc = 1000, .now = 5 * ms, .tick = tsc_tick(2'000'000)};
	EXPECT_EQ(time_of_tsc(1000, moment), 5 * ms);
	EXPECT_EQ(time_of_tsc(0, moment), 5 * ms);
	EXPECT_EQ(time_of_tsc(3000, moment), 5 * ms + 1000);
	EXPECT_EQ(time_of_tsc(~u64{0}, {.tsc = 0, .now = ms, .tick = tsc_tick(1)}), bits(62, 0));
	EXPECT_EQ(time_of_tsc(~u64{0}, {.tsc = 0, .now = ms, .tick = tsc_tick(0)}), bits(62, 0));
	EXPECT_EQ(time_of_tsc(~u64{0} / 2, {.tsc = 0, .now = ~u64{0}, .tick = 1}), bits(62, 0));
}

TEST(LapicTimer, DeadlineFiresAndDisarms)
{
	TimedApic apic{tsc_deadline};
	apic->set_tsc_deadline(1000 + 2 * 3 * ms, apic.moment(1000));
	EXPECT_EQ(apic->tsc_deadline(), 1000 + 2 * 3 * ms);
	clock().advance(3 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	clock().advance(1);
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	clock().advance(50 * ms);
	EXPECT_FALSE(apic.ticked());
}

TEST(LapicTimer, ADeadlineInThePastFiresAtOnce)
{
	TimedApic apic{tsc_deadline};
	const u64 before = clock().fired();
	apic->set_tsc_deadline(999, apic.moment(1000));
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	EXPECT_EQ(clock().fired(), before) << "without the host's timer";
}

TEST(LapicTimer, ADeadlineOfZeroDisarms)
{
	TimedApic apic{tsc_deadline};
	apic->set_tsc_deadline(1000 + 2 * ms, apic.moment(1000));
	apic->set_tsc_deadline(0, apic.moment(1000));
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	clock().advance(5 * ms);
	EXPECT_FALSE(apic.ticked());
}

TEST(LapicTimer, ADeadlineFarAwayNeverComes)
{
	TimedApic apic{tsc_deadline};
	apic->set_tsc_deadline(~u64{0}, apic.moment(1000));
	EXPECT_EQ(apic->tsc_deadline(), ~u64{0});
	clock().advance(1000 * ms);
	EXPECT_FALSE(apic.ticked());
}

TEST(LapicTimer, TheTwoWaysExcludeEachOther)
{
	TimedApic deadline{tsc_deadline};
	deadline.start(1 * ms);
	EXPECT_EQ(deadline.read(ApicRegister::initial_count), 0u);
	EXPECT_EQ(deadline.left(), 0u);
	TimedApic counting{one_shot};
	counting->set_tsc_deadline(2000, counting.moment(1000));
	EXPECT_EQ(counting->tsc_deadline(), 0u);
	clock().advance(5 * ms);
	EXPECT_FALSE(deadline.ticked() || counting.ticked());
}

TEST(LapicTimer, ChangingTheModeDisarms)
{
	TimedApic apic{tsc_deadline};
	apic->set_tsc_deadline(1000 + 2 * ms, apic.moment(1000));
	apic.write(ApicRegister::lvt_timer, one_shot);
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	clock().advance(5 * ms);
	EXPECT_FALSE(apic.ticked());
	apic.start(1 * ms);
	apic.write(ApicRegister::lvt_timer, tsc_deadline);
	clock().advance(5 * ms);
	EXPECT_FALSE(apic.ticked());
}

TEST(LapicTimer, AChangeOfTheTscMovesTheDeadline)
{
	TimedApic apic{tsc_deadline};
	apic->set_tsc_deadline(1000 + 2 * 10 * ms, apic.moment(1000));
	apic->tsc_changed(apic.moment(1000 + 2 * 8 * ms));
	clock().advance(2 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	clock().advance(1);
	EXPECT_TRUE(apic.ticked());
	apic->tsc_changed(apic.moment(0));
	EXPECT_EQ(apic->timer_expiry(), 0u);
}

TEST(LapicTimer, ModeBitDoesNotExistWithoutTheFeature)
{
	Apic apic;
	apic->set_features({});
	apic.enable();
	apic.write(ApicRegister::lvt_timer, tsc_deadline);
	EXPECT_EQ(apic.read(ApicRegister::lvt_timer), vector);
}

// --- the processor watches the deadline
// ------------------------------------------------------------------

TEST(LapicTimer, WhatTheProcessorWatchesArmsNothing)
{
	TimedApic apic{tsc_deadline};
	apic->let_processor_watch_deadline();
	const u64 before = clock().fired();
	apic->set_tsc_deadline(5000, {.tsc = 1000});
	EXPECT_EQ(apic->watched_deadline(), 5000u);
	clock().advance(10 * ms);
	EXPECT_EQ(clock().fired(), before);
	apic->expire_deadline(4999);
	EXPECT_FALSE(apic.ticked());
	apic->expire_deadline(5000);
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	apic->expire_deadline(6000);
	EXPECT_FALSE(apic.ticked());
	// One that has passed comes at once.
	apic->set_tsc_deadline(5000, {.tsc = 5000});
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->watched_deadline(), 0u);
}

TEST(LapicTimer, TheOtherModesStayWithTheHost)
{
	TimedApic apic{periodic};
	apic->let_processor_watch_deadline();
	apic.start(1 * ms);
	clock().advance(1 * ms);
	EXPECT_TRUE(apic.ticked());
	apic->let_host_watch_deadline(apic.moment(1000));
	apic->let_processor_watch_deadline();
	clock().advance(1 * ms);
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->watched_deadline(), 0u);
}

TEST(LapicTimer, ASleepingVcpuGetsTheHostTimer)
{
	TimedApic apic{tsc_deadline};
	apic->let_processor_watch_deadline();
	apic->set_tsc_deadline(1000 + 2 * ms, {.tsc = 1000}); // 2 ticks each ns
	apic->let_host_watch_deadline(apic.moment(1000));
	EXPECT_EQ(apic->watched_deadline(), 0u);
	EXPECT_EQ(apic->tsc_deadline(), 1000 + 2 * ms);
	clock().advance(1 * ms - 1);
	EXPECT_FALSE(apic.ticked());
	// It wakes up early, and sleeps again.
	apic->let_processor_watch_deadline();
	EXPECT_EQ(apic->timer_expiry() && clock().next_expiry(), false);
	apic->let_host_watch_deadline(apic.moment(1000 + 2 * ms - 2));
	clock().advance(1);
	EXPECT_TRUE(apic.ticked());
	EXPECT_EQ(apic->tsc_deadline(), 0u);
	// Too late already when it goes to sleep.
	apic->let_processor_watch_deadline();
	apic->set_tsc_deadline(5000, {.tsc = 1000});
	apic->let_host_watch_deadline(apic.moment(5000));
	EXPECT_TRUE(apic.ticked());
}

TEST(LapicTimer, TheOwnerMeetsTheCallback)
{
	std::atomic<unsigned> wakes{0};
	auto made = Lapic::create(
		0, {[](void *count) { ++*static_cast<std::atomic<unsigned> *>(count); }, &wakes});
	ASSERT_TRUE(made.has_value());
	Lapic &lapic = **made;
	lapic.write_mmio(0xf0, 4, 0x1ff);
	lapic.write_mmio(0x3e0, 4, divide_by_1);
	std::atomic<bool> done{false};
	std::thread time{[&done] {
		while (!done) {
			clock().advance(50'000);
			std::this_thread::sleep_for(std::chrono::microseconds{20});
		}
	}};
	unsigned ticks = 0;
	for (unsigned n = 0; ticks < 10; ++n) {
		lapic.write_mmio(0x320, 4, n % 2 ? one_shot : periodic);
		lapic.write_mmio(0x380, 4, 40'000 + n % 1000);
		if (n % 7)
			lapic.let_host_watch_deadline({.tsc = 1, .now = clock().now(), .tick = 1});
		else
			lapic.let_processor_watch_deadline();
		EXPECT_LE(lapic.read_mmio(0x390, 4), 40'000 + n % 1000);
		lapic.expire_deadline(clock().now());
		lapic.collect();
		if (const auto got = lapic.injectable()) {
			EXPECT_EQ(*got, vector);
			lapic.acknowledge(*got);
			lapic.end_of_interrupt();
			++ticks;
		}
		// Sometimes the timer is changed at once, sometimes time passes first.
		for (const u64 then = clock().now(); n % 4 == 0 && clock().now() == then;)
			std::this_thread::sleep_for(std::chrono::microseconds{20});
	}
	done = true;
	time.join();
	EXPECT_GT(wakes, 0u);
}

TEST(LapicTimer, DiesArmed)
{
	{
		TimedApic apic{periodic};
		apic.start(1 * ms);
	}
	clock().advance(10 * ms);
}

} // namespace kvmpp::tests
