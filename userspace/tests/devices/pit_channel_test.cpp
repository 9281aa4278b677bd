// SPDX-License-Identifier: GPL-2.0-only
// The counters of the programmable interval timer, against the 8254 data sheet's mode definitions.
#include "tests/devices/pit.h"

namespace kvmpp::tests
{

TEST(PitClock, Conversions)
{
	EXPECT_EQ(pit_clock::ticks_in(0), 0u);
	EXPECT_EQ(pit_clock::ticks_in(1'000'000'000), 1'193'182u);
	EXPECT_EQ(pit_clock::time_of(1'193'182), 1'000'000'000u);
	for (u64 ticks : {u64{1}, u64{65536}, u64{1'193'181}, u64{123'456'789'012}, u64{1} << 43}) {
		EXPECT_EQ(pit_clock::ticks_in(pit_clock::time_of(ticks)), ticks);
		EXPECT_EQ(pit_clock::ticks_in(pit_clock::time_of(ticks) - 1), ticks - 1);
	}
}

TEST(PitChannel, Mode0CountsOnceToTerminalCount)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 0, 1000);
	EXPECT_FALSE(machine.out2());
	clock().advance(clocks(400));
	EXPECT_EQ(machine.count(2), 600);
	EXPECT_FALSE(machine.out2());
	clock().advance(clocks(600));
	EXPECT_TRUE(machine.out2());
	clock().advance(clocks(100));
	EXPECT_EQ(machine.count(2), 0x10000 - 100) << "it goes on through 0";
	EXPECT_TRUE(machine.out2());
}

TEST(PitChannel, Mode0IsHeldByTheGateAndByTheFirstByte)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 0, 1000);
	clock().advance(clocks(400));
	machine.gate2(false);
	clock().advance(clocks(5000));
	EXPECT_EQ(machine.count(2), 600);
	EXPECT_FALSE(machine.out2());
	machine.gate2(true);
	clock().advance(clocks(599));
	EXPECT_FALSE(machine.out2());
	clock().advance(clocks(2));
	EXPECT_TRUE(machine.out2());
	machine.pit.write(0x42, 0x10);
	EXPECT_FALSE(machine.out2()) << "low at once";
	clock().advance(clocks(5000));
	EXPECT_FALSE(machine.out2());
	machine.pit.write(0x42, 0x00);
	clock().advance(clocks(17));
	EXPECT_TRUE(machine.out2());
}

TEST(PitChannel, Mode1IsTriggeredByTheGate)
{
	PitMachine machine;
	machine.program(2, 1, 100);
	EXPECT_TRUE(machine.out2());
	clock().advance(clocks(1000));
	EXPECT_TRUE(machine.out2()) << "nothing happens without a trigger";
	EXPECT_TRUE(machine.status(2) & 0x40) << "null count";
	machine.gate2(true);
	EXPECT_FALSE(machine.out2());
	EXPECT_FALSE(machine.status(2) & 0x40);
	clock().advance(clocks(60));
	machine.gate2(false);
	EXPECT_FALSE(machine.out2()) << "the gate's fall changes nothing";
	machine.gate2(true);
	clock().advance(clocks(99));
	EXPECT_FALSE(machine.out2()) << "retriggered";
	clock().advance(clocks(2));
	EXPECT_TRUE(machine.out2());
}

TEST(PitChannel, Mode2IsLowForOneClockOfEachPeriod)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 2, 100);
	unsigned low = 0;
	const u64 start = clock().now();
	for (unsigned n = 0; n < 1000; ++n) {
		clock().advance(start + clocks(n) - clock().now());
		low += !machine.out2();
		ASSERT_EQ(machine.out2(), n % 100 != 99);
		ASSERT_EQ(machine.count(2), 100 - n % 100);
	}
	EXPECT_EQ(low, 10u);
	clock().advance(clocks(39));
	machine.gate2(false);
	EXPECT_TRUE(machine.out2());
	clock().advance(clocks(59));
	EXPECT_EQ(machine.count(2), 62) << "held";
	EXPECT_TRUE(machine.out2());
	machine.gate2(true);
	EXPECT_EQ(machine.count(2), 100) << "the gate starts a period";
}

TEST(PitChannel, Mode2TakesANewCountAtTheEndOfThePeriod)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 2, 1000);
	clock().advance(clocks(3400));
	machine.pit.write(0x42, 50);
	machine.pit.write(0x42, 0);
	EXPECT_EQ(machine.count(2), 600);
	EXPECT_TRUE(machine.status(2) & 0x40);
	clock().advance(clocks(610));
	EXPECT_EQ(machine.count(2), 40);
	EXPECT_FALSE(machine.status(2) & 0x40);
}

TEST(PitChannel, Mode3IsASquareWave)
{
	for (unsigned count : {100u, 101u}) {
		PitMachine machine;
		machine.gate2(true);
		machine.program(2, 3, count);
		const u64 start = clock().now();
		const unsigned high = (count + 1) / 2;
		for (unsigned n = 0; n < 3 * count; ++n) {
			clock().advance(start + clocks(n) - clock().now());
			const unsigned phase = n % count;
			ASSERT_EQ(machine.out2(), phase < high) << count << " " << n;
			const unsigned half = phase < high ? phase : phase - high;
			ASSERT_EQ(machine.count(2), (count & ~1u) - 2 * half);
		}
	}
}

TEST(PitChannel, Mode4StrobesOnce)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 4, 100);
	const u64 start = clock().now();
	for (unsigned n = 0; n < 300; ++n) {
		clock().advance(start + clocks(n) - clock().now());
		ASSERT_EQ(machine.out2(), n != 100) << n;
	}
}

TEST(PitChannel, Mode5StrobesAfterATrigger)
{
	PitMachine machine;
	machine.program(2, 5, 100);
	clock().advance(clocks(500));
	machine.gate2(true);
	const u64 start = clock().now();
	for (unsigned n = 0; n < 300; ++n) {
		clock().advance(start + clocks(n) - clock().now());
		ASSERT_EQ(machine.out2(), n != 100) << n;
	}
}

TEST(PitChannel, CountZeroIsTheLargest)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 0, 0);
	clock().advance(clocks(65535));
	EXPECT_FALSE(machine.out2());
	clock().advance(clocks(2));
	EXPECT_TRUE(machine.out2());
	machine.program(2, 0, 0, true);
	clock().advance(clocks(9999));
	EXPECT_FALSE(machine.out2());
	clock().advance(clocks(2));
	EXPECT_TRUE(machine.out2());
}

TEST(PitChannel, Bcd)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 0, 0x1234, true);
	clock().advance(clocks(1));
	EXPECT_EQ(machine.count(2), 0x1233);
	clock().advance(clocks(1233));
	EXPECT_TRUE(machine.out2());
	EXPECT_EQ(machine.count(2), 0x0000);
	clock().advance(clocks(2));
	EXPECT_EQ(machine.count(2) & 0xfff0, 0x9990);
}

TEST(PitChannel, AccessModes)
{
	PitMachine machine;
	machine.gate2(true);
	machine.pit.write(0x43, 0x90); // channel 2, low byte, mode 0
	machine.pit.write(0x42, 0x80);
	EXPECT_EQ(machine.pit.read(0x42), 0x80);
	EXPECT_EQ(machine.pit.read(0x42), 0x80);
	machine.pit.write(0x43, 0xa0); // high byte
	machine.pit.write(0x42, 0x12);
	EXPECT_EQ(machine.pit.read(0x42), 0x12);
	EXPECT_EQ(machine.pit.read(0x42), 0x12);
	machine.program(2, 0, 0x3456);
	EXPECT_EQ(machine.pit.read(0x42), 0x56);
	EXPECT_EQ(machine.pit.read(0x42), 0x34);
	EXPECT_EQ(machine.pit.read(0x42), 0x56);
}

TEST(PitChannel, ALatchedCountStaysUntilItIsRead)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 0, 0x3456);
	machine.pit.write(0x43, 0x80);
	clock().advance(clocks(0x100));
	machine.pit.write(0x43, 0x80); // ignored, the first is not read yet
	EXPECT_EQ(machine.pit.read(0x42), 0x56);
	clock().advance(clocks(0x100));
	EXPECT_EQ(machine.pit.read(0x42), 0x34);
	EXPECT_EQ(machine.pit.read(0x42), 0x56) << "free-running again";
	EXPECT_EQ(machine.pit.read(0x42), 0x32);
}

TEST(PitChannel, ALatchedCountHasTheBytesOfItsAccessMode)
{
	PitMachine machine;
	machine.gate2(true);
	machine.pit.write(0x43, 0x90); // low byte
	machine.pit.write(0x42, 0x80);
	machine.pit.write(0x43, 0x80);
	EXPECT_EQ(machine.pit.read(0x42), 0x80);
	clock().advance(clocks(1));
	EXPECT_EQ(machine.pit.read(0x42), 0x7f) << "one byte was all";
	machine.pit.write(0x43, 0xa0); // high byte
	machine.pit.write(0x42, 0x12);
	machine.pit.write(0x43, 0x80);
	clock().advance(clocks(1));
	EXPECT_EQ(machine.pit.read(0x42), 0x12);
	EXPECT_EQ(machine.pit.read(0x42), 0x11);
}

TEST(PitChannel, ReadBack)
{
	PitMachine machine;
	machine.gate2(true);
	machine.program(2, 3, 1000, true);
	machine.program(1, 2, 18);
	clock().advance(clocks(10));
	// Status and count of channels 1 and 2; status comes first.
	machine.pit.write(0x43, 0xcc);
	EXPECT_EQ(machine.pit.read(0x42), 0x80 | 0x30 | 3 << 1 | 1);
	EXPECT_EQ(machine.pit.read(0x41), 0x80 | 0x30 | 2 << 1);
	EXPECT_EQ(machine.pit.read(0x41), 8);
	EXPECT_EQ(machine.pit.read(0x41), 0);
	machine.pit.write(0x43, 0xb4); // mode word for channel 2, count not written
	EXPECT_EQ(machine.status(2), 0x80 | 0x40 | 0x30 | 2 << 1) << "null count";
	machine.pit.write(0x43, 0xbe); // mode 7 is mode 3
	EXPECT_EQ(machine.status(2) & 0x0e, 3 << 1);
}

} // namespace kvmpp::tests
