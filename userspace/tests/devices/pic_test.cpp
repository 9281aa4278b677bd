// SPDX-License-Identifier: GPL-2.0-only
// The 8259A pair.
#include <cstring>
#include <vector>
#include <gtest/gtest.h>
#include "x86/devices/pic.h"

namespace kvmpp::tests
{

using namespace kvmpp::x86;

namespace
{

constexpr u8 eoi = 0x20, specific_eoi = 0x60, read_irr = 0x0a, read_isr = 0x0b, poll = 0x0c;

struct Machine {
	std::vector<unsigned> over;
	unsigned changes = 0;
	bool intr = false;
	Pic pic{{callback<&Machine::output>(*this), callback<&Machine::acknowledged>(*this)}};

	// As a PC's firmware or kernel programs the pair.
	explicit Machine(u8 icw4 = 1, bool programmed = true)
	{
		if (!programmed)
			return;
		initialize(0x20, 0x30, 4, icw4);
		initialize(0xa0, 0x38, 2, icw4 & ~0x10);
	}

	void output(bool level)
	{
		EXPECT_NE(level, intr) << "only changes are reported";
		intr = level;
		++changes;
	}
	void acknowledged(unsigned line) { over.push_back(line); }

	void initialize(u16 port, u8 base, u8 icw3, u8 icw4)
	{
		pic.write(port, 0x11);
		pic.write(port + 1, base);
		pic.write(port + 1, icw3);
		pic.write(port + 1, icw4);
	}
	int raise(unsigned line, unsigned source = 0) { return pic.set_line(line, source, true); }
	int lower(unsigned line, unsigned source = 0) { return pic.set_line(line, source, false); }
	int pulse(unsigned line)
	{
		const int result = raise(line);
		lower(line);
		return result;
	}
	// The vector that the processor gets, 0 without a request.
	u8 take() { return intr ? pic.acknowledge() : 0; }
	void end(bool slave = false)
	{
		if (slave)
			pic.write(0xa0, eoi);
		pic.write(0x20, eoi);
	}
	u8 irr(u16 port = 0x20)
	{
		pic.write(port, read_irr);
		return pic.read(port);
	}
	u8 isr(u16 port = 0x20)
	{
		pic.write(port, read_isr);
		return pic.read(port);
	}
};

} // namespace

TEST(Pic, EveryLineHasItsVector)
{
	for (unsigned line = 0; line < 16; ++line) {
		if (line == 2)
			continue;
		Machine machine;
		EXPECT_EQ(machine.pulse(line), 1);
		EXPECT_EQ(machine.take(), 0x30 + line);
		EXPECT_FALSE(machine.intr);
		machine.end(line >= 8);
		EXPECT_EQ(machine.over, std::vector<unsigned>{line});
		EXPECT_EQ(machine.isr() | machine.isr(0xa0), 0);
	}
}

TEST(Pic, FullyNestedPriorities)
{
	Machine machine;
	for (unsigned line : {7, 1, 12, 8, 3, 0})
		machine.pulse(line);
	for (unsigned line : {0, 1, 8, 12, 3, 7}) {
		EXPECT_EQ(machine.take(), 0x30 + line);
		machine.end(line >= 8);
	}
	EXPECT_FALSE(machine.intr);
}

TEST(Pic, AHigherPriorityInterruptsALowerOneWaits)
{
	Machine machine;
	machine.pulse(4);
	EXPECT_EQ(machine.take(), 0x34);
	machine.pulse(5);
	machine.pulse(4);
	EXPECT_FALSE(machine.intr);
	machine.pulse(1);
	EXPECT_EQ(machine.take(), 0x31);
	EXPECT_EQ(machine.isr(), 1 << 1 | 1 << 4);
	machine.end();
	EXPECT_FALSE(machine.intr) << "4 is still served";
	machine.end();
	EXPECT_EQ(machine.take(), 0x34);
	machine.end();
	EXPECT_EQ(machine.take(), 0x35);
}

TEST(Pic, AnEdgeIsLatchedALevelFollowsTheLine)
{
	Machine machine;
	machine.pic.write(0x4d0, 1 << 5);
	machine.pulse(4);
	machine.pulse(5);
	EXPECT_EQ(machine.irr(), 1 << 4);
	machine.take();
	machine.end();
	machine.raise(4);
	EXPECT_EQ(machine.take(), 0x34);
	machine.end();
	EXPECT_FALSE(machine.intr) << "one edge, one interrupt";
	machine.raise(5);
	EXPECT_EQ(machine.take(), 0x35);
	machine.end();
	EXPECT_EQ(machine.take(), 0x35) << "still high";
	machine.lower(5);
	machine.end();
	EXPECT_FALSE(machine.intr);
}

TEST(Pic, StatusOfALine)
{
	Machine machine;
	EXPECT_EQ(machine.pulse(4), 1);
	EXPECT_EQ(machine.pulse(4), delivery_coalesced);
	machine.take();
	EXPECT_EQ(machine.pulse(4), 1) << "in service there is room for one more";
	machine.pic.write(0x21, 1 << 4);
	EXPECT_EQ(machine.pulse(4), delivery_ignored);
	EXPECT_EQ(machine.pic.set_line(16, 0, true), delivery_ignored);
	EXPECT_EQ(machine.pic.set_line(0, 64, true), delivery_ignored);
}

TEST(Pic, MaskedRequestsWait)
{
	Machine machine;
	machine.pic.write(0x21, 0xff);
	EXPECT_EQ(machine.pic.read(0x21), 0xff);
	machine.pulse(4);
	EXPECT_FALSE(machine.intr);
	EXPECT_EQ(machine.irr(), 1 << 4);
	machine.pic.write(0x21, 0xef);
	EXPECT_EQ(machine.take(), 0x34);
}

TEST(Pic, ALineIsHighWhileAnySourceHoldsIt)
{
	Machine machine;
	machine.pic.write(0x4d1, 1 << 2);
	machine.raise(10, 0);
	machine.raise(10, 5);
	machine.lower(10, 0);
	EXPECT_TRUE(machine.irr(0xa0) & 1 << 2);
	machine.pic.drop_source(5);
	EXPECT_FALSE(machine.irr(0xa0));
}

TEST(Pic, SpuriousInterruptsHaveTheLowestVector)
{
	Machine machine;
	EXPECT_EQ(machine.pic.acknowledge(), 0x37);
	EXPECT_EQ(machine.isr(), 0) << "and are not in service";
	machine.pic.write(0x4d1, 1 << 3);
	machine.raise(11);
	machine.lower(11);
	ASSERT_TRUE(machine.intr) << "the master has latched the slave's request";
	EXPECT_EQ(machine.take(), 0x3f);
	EXPECT_EQ(machine.isr(0xa0), 0);
	EXPECT_EQ(machine.isr(), 1 << 2) << "the cascade is";
	EXPECT_TRUE(machine.over.empty());
}

TEST(Pic, ASlaveAsksAgainAfterItsEnd)
{
	Machine machine;
	machine.pulse(12);
	EXPECT_EQ(machine.take(), 0x3c);
	machine.pulse(9);
	EXPECT_FALSE(machine.intr) << "the master serves the cascade";
	machine.pic.write(0x20, eoi);
	EXPECT_EQ(machine.take(), 0x39);
	machine.end(true);
	machine.pic.write(0xa0, eoi);
	EXPECT_EQ(machine.over, (std::vector<unsigned>{9, 12}));
	EXPECT_FALSE(machine.intr);
}

TEST(Pic, SpecialFullyNestedModeLetsTheSlavesHigherRequestsThrough)
{
	Machine machine{0x11};
	machine.pulse(12);
	EXPECT_EQ(machine.take(), 0x3c);
	machine.pulse(9);
	EXPECT_EQ(machine.take(), 0x39);
	machine.pulse(14);
	EXPECT_FALSE(machine.intr);
}

TEST(Pic, SpecificEnd)
{
	Machine machine;
	machine.pulse(5);
	machine.take();
	machine.pulse(3);
	machine.take();
	machine.pic.write(0x20, specific_eoi | 5);
	EXPECT_EQ(machine.isr(), 1 << 3);
	EXPECT_EQ(machine.over, std::vector<unsigned>{5});
}

TEST(Pic, AnEndWithNothingInServiceIsNothing)
{
	Machine machine;
	machine.end(true);
	machine.pic.write(0x20, 0xa0);
	EXPECT_TRUE(machine.over.empty());
}

TEST(Pic, RotationOnEnd)
{
	Machine machine;
	machine.pulse(3);
	machine.take();
	machine.pic.write(0x20, 0xa0);
	for (unsigned line : {0, 3, 4, 7})
		machine.pulse(line);
	for (unsigned line : {4, 7, 0, 3}) {
		EXPECT_EQ(machine.take(), 0x30 + line) << "3 has become the lowest";
		machine.end();
	}
}

TEST(Pic, RotationOnSpecificEndAndSetPriority)
{
	Machine machine;
	machine.pulse(5);
	machine.take();
	machine.pic.write(0x20, 0xe0 | 5);
	EXPECT_EQ(machine.isr(), 0);
	machine.pulse(5);
	machine.pulse(6);
	EXPECT_EQ(machine.take(), 0x36);
	machine.end();
	machine.take();
	machine.end();
	machine.pic.write(0x20, 0xc0 | 0); // 0 is the lowest
	machine.pulse(0);
	machine.pulse(7);
	EXPECT_EQ(machine.take(), 0x37);
}

TEST(Pic, AutomaticEnd)
{
	Machine machine{0x03};
	machine.pulse(4);
	EXPECT_EQ(machine.take(), 0x34);
	EXPECT_EQ(machine.isr(), 0);
	EXPECT_EQ(machine.over, std::vector<unsigned>{4});
	machine.pulse(13);
	EXPECT_EQ(machine.take(), 0x3d);
	EXPECT_EQ(machine.over, (std::vector<unsigned>{4, 13}));
}

TEST(Pic, RotationInAutomaticEndMode)
{
	Machine machine{0x03};
	machine.pic.write(0x20, 0x80);
	machine.pulse(1);
	EXPECT_EQ(machine.take(), 0x31);
	machine.pulse(1);
	machine.pulse(6);
	EXPECT_EQ(machine.take(), 0x36);
	machine.pic.write(0x20, 0x00);
	machine.take();
	machine.pulse(0);
	machine.pulse(7);
	EXPECT_EQ(machine.take(), 0x37) << "6 stays the lowest, rotation is off";
}

TEST(Pic, SpecialMaskMode)
{
	Machine machine;
	machine.pulse(3);
	EXPECT_EQ(machine.take(), 0x33);
	machine.pic.write(0x20, 0x68);
	machine.pic.write(0x21, 1 << 3);
	machine.pulse(6);
	EXPECT_EQ(machine.take(), 0x36) << "a masked level in service holds nothing back";
	machine.pic.write(0x20, eoi);
	EXPECT_EQ(machine.isr(), 1 << 3) << "and is not what an end means";
	machine.pic.write(0x20, 0x48);
	machine.pulse(6);
	EXPECT_FALSE(machine.intr);
}

TEST(Pic, Poll)
{
	Machine machine;
	machine.pic.write(0x20, poll);
	EXPECT_EQ(machine.pic.read(0x20), 0) << "no request";
	machine.pulse(5);
	machine.pic.write(0x20, poll);
	EXPECT_EQ(machine.pic.read(0x20), 0x85);
	EXPECT_FALSE(machine.intr);
	EXPECT_EQ(machine.isr(), 1 << 5) << "a poll is an acknowledge";
	machine.end();
	machine.pulse(10);
	machine.pic.write(0xa0, poll);
	EXPECT_EQ(machine.pic.read(0xa1), 0x82);
	EXPECT_FALSE(machine.intr) << "the master hears of it no more";
	EXPECT_EQ(machine.isr(0xa0), 1 << 2);
}

TEST(Pic, Icw1StartsOver)
{
	Machine machine;
	machine.pulse(4);
	machine.take();
	machine.pulse(6);
	machine.raise(7);
	machine.pic.write(0x21, 0x0f);
	machine.pic.write(0x20, 0xc3);
	machine.pic.write(0x20, 0x11);
	EXPECT_FALSE(machine.intr);
	EXPECT_EQ(machine.over, (std::vector<unsigned>{4, 6, 7}))
		<< "nobody waits for them in vain";
	machine.pic.write(0x21, 0x50);
	machine.pic.write(0x21, 0x04);
	machine.pic.write(0x21, 0x01);
	EXPECT_EQ(machine.pic.read(0x21), 0) << "unmasked";
	machine.pulse(4);
	machine.pulse(0);
	EXPECT_EQ(machine.take(), 0x50) << "the priorities are the first ones";
	EXPECT_EQ(machine.isr(), 1);
	machine.end();
	machine.take();
	machine.end();
	machine.raise(7);
	EXPECT_EQ(machine.take(), 0x57) << "the line must be seen to rise again";
}

TEST(Pic, Icw1WithoutIcw4)
{
	Machine machine{0x13};
	machine.pic.write(0x20, 0x10);
	machine.pic.write(0x21, 0x47);
	machine.pic.write(0x21, 0x04);
	machine.pic.write(0x21, 0x55); // a mask already
	EXPECT_EQ(machine.pic.read(0x21), 0x55);
	machine.pulse(1);
	EXPECT_EQ(machine.take(), 0x41) << "the low bits of ICW2 are the line";
	EXPECT_EQ(machine.isr(), 2) << "no automatic end any more";
}

TEST(Pic, LevelLinesSurviveIcw1)
{
	Machine machine;
	machine.pic.write(0x4d0, 1 << 5);
	machine.raise(5);
	machine.initialize(0x20, 0x30, 4, 1);
	EXPECT_EQ(machine.take(), 0x35);
}

TEST(Pic, TheEdgeLevelRegistersKeepSystemLinesEdges)
{
	Machine machine;
	machine.pic.write(0x4d0, 0xff);
	machine.pic.write(0x4d1, 0xff);
	EXPECT_EQ(machine.pic.read(0x4d0), 0xf8);
	EXPECT_EQ(machine.pic.read(0x4d1), 0xde);
}

TEST(Pic, OtherPortsAreNothing)
{
	Machine machine;
	EXPECT_EQ(machine.pic.read(0x22), 0xff);
	machine.pic.write(0x4d2, 0xff);
}

TEST(Pic, StateRoundTrip)
{
	Machine from{0x11};
	from.pic.write(0x4d1, 1 << 2);
	from.pic.write(0x21, 0x80);
	from.pulse(3);
	from.take();
	from.pulse(1);
	from.raise(10);
	kvm_pic_state saved[2];
	for (unsigned chip : {0, 1})
		from.pic.get(chip, saved[chip]);
	EXPECT_EQ(saved[0].irq_base, 0x30);
	EXPECT_EQ(saved[0].isr, 1 << 3);
	EXPECT_EQ(saved[1].elcr, 1 << 2);
	EXPECT_EQ(saved[0].elcr_mask, 0xf8);

	Machine to{1, false};
	for (unsigned chip : {0, 1})
		to.pic.set(chip, saved[chip]);
	for (unsigned chip : {0, 1}) {
		kvm_pic_state again;
		to.pic.get(chip, again);
		EXPECT_EQ(std::memcmp(&saved[chip], &again, sizeof(again)), 0) << chip;
	}
	EXPECT_TRUE(to.intr);
	EXPECT_EQ(to.take(), 0x31);
	to.end();
	EXPECT_EQ(to.take(), 0x3a);
}

TEST(Pic, AHostileStateIsMadeLegal)
{
	Machine machine;
	kvm_pic_state wild;
	std::memset(&wild, 0xff, sizeof(wild));
	for (unsigned chip : {0, 1})
		machine.pic.set(chip, wild);
	kvm_pic_state state;
	machine.pic.get(0, state);
	EXPECT_EQ(state.priority_add, 7);
	EXPECT_EQ(state.irq_base, 0xf8);
	EXPECT_EQ(state.elcr, 0xf8);
	EXPECT_EQ(state.auto_eoi, 1);
	for (unsigned n = 0; n < 100; ++n) {
		machine.pic.acknowledge();
		machine.pic.read(0x20);
		machine.end(true);
	}
}

} // namespace kvmpp::tests
