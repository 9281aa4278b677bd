// SPDX-License-Identifier: GPL-2.0-only
// The programmable interval timer: channel 0 and its interrupt, the speaker's port, state.
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include "tests/devices/pit.h"

namespace kvmpp::tests
{

TEST(Pit, StartsSilent)
{
	PitMachine machine;
	machine.run(1000 * ms);
	EXPECT_EQ(machine.interrupts, 0u);
}

TEST(Pit, PeriodicInterrupts)
{
	for (unsigned mode : {2, 3}) {
		PitMachine machine;
		machine.program(0, mode, 11932); // 10 ms
		machine.run(clocks(11932) - 1);
		EXPECT_EQ(machine.interrupts, 0u);
		machine.run(1);
		EXPECT_EQ(machine.interrupts, 1u);
		machine.run(1000 * ms);
		EXPECT_EQ(machine.interrupts, 100u);
	}
}

TEST(Pit, PeriodicInterruptsDoNotDrift)
{
	PitMachine machine;
	machine.program(0, 2, 1193);
	machine.run(u64{100} * 1000 * ms);
	EXPECT_EQ(machine.interrupts, 100u * 1'193'182 / 1193);
}

TEST(Pit, OneShotInterrupts)
{
	for (unsigned mode : {0, 4}) {
		PitMachine machine;
		machine.program(0, mode, 1000);
		machine.run(100 * ms);
		EXPECT_EQ(machine.interrupts, 1u) << mode;
		machine.program(0, mode, 1000);
		machine.run(100 * ms);
		EXPECT_EQ(machine.interrupts, 2u);
	}
}

TEST(Pit, TheStrobeOfMode4RisesOneClockAfterTerminalCount)
{
	PitMachine machine;
	machine.program(0, 4, 1000);
	machine.run(clocks(1001) - 1);
	EXPECT_EQ(machine.interrupts, 0u);
	machine.run(1);
	EXPECT_EQ(machine.interrupts, 1u);
}

TEST(Pit, NoInterruptWithoutATrigger)
{
	for (unsigned mode : {1, 5}) {
		PitMachine machine;
		machine.program(0, mode, 1000);
		machine.run(100 * ms);
		EXPECT_EQ(machine.interrupts, 0u) << mode;
	}
}

TEST(Pit, AModeWordStopsTheTimer)
{
	PitMachine machine;
	machine.program(0, 2, 1193);
	machine.run(10 * ms);
	const unsigned before = machine.interrupts;
	EXPECT_GT(before, 5u);
	machine.pit.write(0x43, 0x30);
	machine.run(100 * ms);
	EXPECT_EQ(machine.interrupts, before);
}

TEST(Pit, ANewCountLetsThePeriodEndFirst)
{
	PitMachine machine;
	machine.program(0, 2, 11932);
	machine.run(4 * ms);
	machine.pit.write(0x40, 1193 & 0xff);
	machine.pit.write(0x40, 1193 >> 8);
	machine.run(5 * ms);
	EXPECT_EQ(machine.interrupts, 0u);
	machine.run(1 * ms + ms / 10);
	EXPECT_EQ(machine.interrupts, 1u);
	machine.run(5 * ms);
	EXPECT_EQ(machine.interrupts, 6u);
}

TEST(Pit, AGuestCannotTickFasterThanTheBound)
{
	PitMachine machine;
	machine.program(0, 2, 1);
	const u64 before = clock().fired();
	machine.run(100 * ms);
	EXPECT_LE(clock().fired() - before, 100 * ms / Pit::default_min_period + 1);
	EXPECT_GT(clock().fired() - before, 400u);
}

TEST(Pit, ALongPauseIsOneCallback)
{
	PitMachine machine;
	machine.program(0, 2, 1193);
	const u64 before = clock().fired();
	clock().jump(u64{24} * 3600 * 1000 * ms);
	EXPECT_EQ(clock().fired() - before, 1u);
	EXPECT_EQ(machine.interrupts, 1u);
}

TEST(Pit, ReinjectionKeepsTicksThatWaitForAnAcknowledgement)
{
	PitMachine machine;
	machine.acknowledges = false;
	machine.program(0, 2, 11932);
	machine.run(5 * clocks(11932) + ms);
	EXPECT_EQ(machine.interrupts, 1u);
	for (unsigned n = 2; n <= 5; ++n) {
		machine.pit.acknowledged();
		EXPECT_EQ(machine.interrupts, n);
	}
	machine.pit.acknowledged();
	EXPECT_EQ(machine.interrupts, 5u);
}

TEST(Pit, WithoutReinjectionEveryTickIsRaised)
{
	PitMachine machine;
	machine.acknowledges = false;
	machine.pit.set_reinject(false);
	machine.program(0, 2, 11932);
	machine.run(5 * clocks(11932) + ms);
	EXPECT_EQ(machine.interrupts, 5u);
	machine.pit.acknowledged();
	EXPECT_EQ(machine.interrupts, 5u);
}

TEST(Pit, TurningReinjectionOffForgetsWhatWaits)
{
	PitMachine machine;
	machine.acknowledges = false;
	machine.program(0, 2, 11932);
	machine.run(5 * clocks(11932) + ms);
	machine.pit.set_reinject(false);
	machine.pit.set_reinject(true);
	machine.pit.acknowledged();
	EXPECT_EQ(machine.interrupts, 1u);
}

TEST(Pit, TicksThatNobodyCouldSeeAreNotKept)
{
	PitMachine machine;
	machine.answer = delivery_ignored;
	machine.program(0, 2, 11932);
	machine.run(5 * clocks(11932) + ms);
	EXPECT_EQ(machine.interrupts, 5u) << "each is tried";
	machine.answer = 1;
	machine.pit.acknowledged();
	EXPECT_EQ(machine.interrupts, 5u);
	machine.run(clocks(11932));
	EXPECT_EQ(machine.interrupts, 6u);
}

TEST(Pit, Reprogramming_ForgetsTheOldTicks)
{
	PitMachine machine;
	machine.acknowledges = false;
	machine.program(0, 2, 11932);
	machine.run(50 * ms);
	machine.program(0, 2, 11932);
	machine.acknowledges = true;
	machine.pit.acknowledged();
	EXPECT_EQ(machine.interrupts, 1u);
	machine.run(clocks(11932));
	EXPECT_EQ(machine.interrupts, 2u);
}

TEST(Pit, TheHpetTakesItsInterrupt)
{
	PitMachine machine;
	machine.program(0, 2, 11932);
	kvm_pit_state2 state;
	machine.pit.get(state);
	EXPECT_EQ(state.flags, 0u);
	state.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	machine.pit.set(state);
	machine.run(100 * ms);
	EXPECT_EQ(machine.interrupts, 0u);
	machine.program(0, 2, 11932);
	machine.run(100 * ms);
	EXPECT_EQ(machine.interrupts, 0u);
	EXPECT_NE(machine.count(0), 0) << "it counts nevertheless";
	machine.pit.get(state);
	EXPECT_EQ(state.flags, u32{KVM_PIT_FLAGS_HPET_LEGACY});
	state.flags = 0;
	machine.pit.set(state);
	machine.run(100 * ms);
	EXPECT_EQ(machine.interrupts, 9u);
}

TEST(Pit, Speaker)
{
	PitMachine machine;
	EXPECT_EQ(machine.pit.read(0x61) & 0x0f, 0);
	machine.pit.write(0x61, 0xff);
	EXPECT_EQ(machine.pit.read(0x61) & 0x0f, 3);
	machine.pit.write(0x61, 0x02);
	EXPECT_EQ(machine.pit.read(0x61) & 0x0f, 2);
	kvm_pit_state2 state;
	machine.pit.get(state);
	EXPECT_EQ(state.flags, u32{KVM_PIT_FLAGS_SPEAKER_DATA_ON});
	bool refresh[2] = {};
	for (unsigned n = 0; n < 10; ++n) {
		refresh[machine.pit.read(0x61) >> 4 & 1] = true;
		clock().advance(10'000);
	}
	EXPECT_TRUE(refresh[0] && refresh[1]);
}

TEST(Pit, StateRoundTrip)
{
	PitMachine from;
	from.gate2(true);
	from.program(0, 2, 11932);
	from.program(1, 3, 18, true);
	from.pit.write(0x43, 0xb0);
	from.pit.write(0x42, 0x77);	   // half a count
	from.pit.write(0x43, 0xc2 | 0x20); // status of channel 0
	kvm_pit_state2 saved;
	from.pit.get(saved);
	EXPECT_EQ(saved.channels[0].count, 11932u);
	EXPECT_EQ(saved.channels[0].mode, 2);
	EXPECT_EQ(saved.channels[1].bcd, 1);
	EXPECT_EQ(saved.channels[2].gate, 1);
	EXPECT_EQ(saved.channels[2].write_state, 4);

	PitMachine to;
	to.pit.set(saved);
	kvm_pit_state2 again;
	to.pit.get(again);
	for (unsigned n = 0; n < 3; ++n)
		again.channels[n].count_load_time = saved.channels[n].count_load_time;
	again.channels[2].count = saved.channels[2].count;
	EXPECT_EQ(std::memcmp(&saved, &again, sizeof(saved)), 0);
	EXPECT_EQ(to.pit.read(0x40), saved.channels[0].status);
	to.run(100 * ms + ms / 2);
	EXPECT_EQ(to.interrupts, 10u);
	to.pit.write(0x42, 0x01);
	EXPECT_EQ(to.count(2), 0x177) << "the other half";
}

TEST(Pit, OnlyTheSpeakersGateCanBeRestoredLow)
{
	PitMachine machine;
	kvm_pit_state2 state;
	machine.pit.get(state);
	for (auto &channel : state.channels)
		channel.gate = 0;
	machine.pit.set(state);
	machine.pit.get(state);
	EXPECT_EQ(state.channels[0].gate, 1);
	EXPECT_EQ(state.channels[1].gate, 1);
	EXPECT_EQ(state.channels[2].gate, 0);
}

// A restored count of 0 was divided by, in the channels that have no timer.
TEST(Pit, Cve_2015_7513_CountsOfZeroAreRestoredSafely)
{
	for (unsigned mode = 0; mode < 256; ++mode) {
		PitMachine machine;
		kvm_pit_state2 state{};
		for (auto &channel : state.channels) {
			channel.mode = mode;
			channel.gate = 1;
		}
		machine.pit.set(state);
		clock().advance(ms);
		for (u16 port : {0x40, 0x41, 0x42, 0x61})
			machine.pit.read(port);
		for (unsigned channel = 0; channel < 3; ++channel)
			machine.status(channel);
	}
}

TEST(Pit, AHostileStateIsMadeLegal)
{
	PitMachine machine;
	kvm_pit_state2 wild;
	std::memset(&wild, 0xff, sizeof(wild));
	for (unsigned mode = 0; mode < 8; ++mode) {
		for (auto &channel : wild.channels)
			channel.mode = mode;
		machine.pit.set(wild);
		machine.run(10 * ms);
		for (unsigned n = 0; n < 4; ++n)
			for (u16 port : {0x40, 0x41, 0x42, 0x61})
				machine.pit.read(port);
	}
	kvm_pit_state2 state;
	machine.pit.get(state);
	EXPECT_LE(state.channels[0].count, 0x10000u);
}

TEST(Pit, OtherPortsAreNothing)
{
	PitMachine machine;
	machine.program(0, 0, 0x1234);
	for (u16 port : {0x3f, 0x44, 0x60, 0x62}) {
		machine.pit.write(port, 0xff);
		machine.pit.write(port, 0xff);
		EXPECT_EQ(machine.pit.read(port), 0);
	}
	EXPECT_EQ(machine.count(0), 0x1234);
	EXPECT_EQ(machine.pit.read(0x43), 0);
}

// The timer was cancelled in one place and started in another, without a lock between them.
TEST(Pit, Cve_2014_3611_ProgrammingMeetsItsOwnTimer)
{
	std::atomic<unsigned> interrupts{0};
	Pit pit{{[](void *count, bool level) {
			 *static_cast<std::atomic<unsigned> *>(count) += level;
			 return 1;
		 },
		&interrupts}};
	std::atomic<bool> done{false};
	std::thread time{[&done] {
		while (!done) {
			clock().advance(100'000);
			std::this_thread::sleep_for(std::chrono::microseconds{20});
		}
	}};
	std::thread guest{[&pit] {
		for (unsigned n = 0; n < 2000; ++n)
			pit.acknowledged();
	}};
	for (unsigned n = 0; n < 1000; ++n) {
		pit.write(0x43, n % 3 ? 0x34 : 0x30);
		pit.write(0x40, 0x20);
		pit.write(0x40, 0x01);
		pit.read(0x40);
	}
	guest.join();
	pit.write(0x43, 0x30);
	const unsigned stopped = interrupts;
	std::this_thread::sleep_for(std::chrono::milliseconds{2});
	EXPECT_EQ(interrupts, stopped);
	done = true;
	time.join();
	EXPECT_EQ(clock().next_expiry(), 0u);
}

TEST(Pit, DiesArmed)
{
	{
		PitMachine machine;
		machine.program(0, 2, 1193);
	}
	clock().advance(10 * ms);
}

} // namespace kvmpp::tests
