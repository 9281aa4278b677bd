// SPDX-License-Identifier: GPL-2.0-only
// The I/O APIC.
#include <cstring>
#include <optional>
#include <vector>
#include <gtest/gtest.h>
#include "sim/clock.h"
#include "x86/devices/ioapic.h"

namespace kvmpp::tests
{

using namespace kvmpp::x86;
using sim::clock;

namespace
{

constexpr u64 level = 1 << 15, masked = 1 << 16, remote_irr = 1 << 14;

struct Machine {
	std::vector<Message> sent;
	std::vector<unsigned> acknowledged;
	unsigned changes = 0; // of the vectors
	int answer = 1;
	// A device that samples its line again when its interrupt has ended.
	std::optional<unsigned> resampled;
	Ioapic ioapic{{callback<&Machine::deliver>(*this), callback<&Machine::acknowledge>(*this),
		callback<&Machine::vectors_changed>(*this)}};

	int deliver(const Message &message)
	{
		sent.push_back(message);
		return answer;
	}
	void vectors_changed() { ++changes; }
	void acknowledge(unsigned pin)
	{
		acknowledged.push_back(pin);
		if (resampled == pin)
			ioapic.set_line(pin, 0, false);
	}

	u32 read(u8 selector)
	{
		ioapic.write(0, 4, selector);
		return static_cast<u32>(ioapic.read(0x10, 4));
	}
	void write(u8 selector, u32 value)
	{
		ioapic.write(0, 4, selector);
		ioapic.write(0x10, 4, value);
	}
	u64 entry(unsigned pin) { return read(0x10 + pin * 2) | u64{read(0x11 + pin * 2)} << 32; }
	void set_entry(unsigned pin, u64 value)
	{
		write(0x11 + pin * 2, static_cast<u32>(value >> 32));
		write(0x10 + pin * 2, static_cast<u32>(value));
	}
	int raise(unsigned pin, unsigned source = 0) { return ioapic.set_line(pin, source, true); }
	int lower(unsigned pin, unsigned source = 0) { return ioapic.set_line(pin, source, false); }
	int pulse(unsigned pin)
	{
		const int result = raise(pin);
		lower(pin);
		return result;
	}
};

} // namespace

TEST(Ioapic, Reset)
{
	Machine machine;
	EXPECT_EQ(machine.read(0), 0u);
	EXPECT_EQ(machine.read(1), 0x00170011u) << "24 pins, version 0x11";
	for (unsigned pin = 0; pin < 24; ++pin)
		EXPECT_EQ(machine.entry(pin), masked);
	EXPECT_TRUE(machine.ioapic.contains(0xfec00000));
	EXPECT_TRUE(machine.ioapic.contains(0xfec000ff));
	EXPECT_FALSE(machine.ioapic.contains(0xfec00100));
	EXPECT_FALSE(machine.ioapic.contains(0xfebfffff));
}

TEST(Ioapic, Registers)
{
	Machine machine;
	machine.write(0, 0xffffffff);
	EXPECT_EQ(machine.read(0), 0x0f000000u);
	EXPECT_EQ(machine.read(2), 0x0f000000u) << "arbitration ID follows the ID";
	machine.write(1, 0);
	EXPECT_EQ(machine.read(1), 0x00170011u);
	machine.set_entry(3, ~u64{0});
	EXPECT_EQ(machine.entry(3), 0xff0000000001afffu) << "read-only and reserved bits stay 0";
	EXPECT_EQ(machine.ioapic.read(0, 4), 0x17u);
	EXPECT_EQ(machine.ioapic.read(0x20, 4), 0u);
}

// The selector indexed the table without a check of its range.
TEST(Ioapic, Cve_2013_1798_EverySelectorAndSizeIsSafe)
{
	Machine machine;
	for (unsigned selector = 0; selector < 256; ++selector)
		for (u32 offset = 0; offset < 0x100; ++offset)
			for (unsigned size : {0u, 1u, 2u, 3u, 4u, 5u, 8u, 16u, ~0u}) {
				machine.ioapic.write(0, 4, selector);
				const u64 value = machine.ioapic.read(offset, size);
				if (size <= 8 && size) {
					ASSERT_EQ(value & ~bits(size * 8 - 1, 0), 0u);
				}
			}
	for (unsigned selector = 0; selector < 256; ++selector) {
		const bool table = selector >= 0x10 && selector < 0x40;
		if (selector > 2 && !table) {
			EXPECT_EQ(machine.read(selector), 0xffffffffu) << selector;
		}
		machine.write(selector, 0xffffffff);
	}
	machine.ioapic.write(0, 4, 0xffffff10);
	EXPECT_EQ(machine.ioapic.read(0, 4), 0x10u) << "the selector has eight bits";
}

TEST(Ioapic, NarrowAccess)
{
	Machine machine;
	machine.ioapic.write(0, 1, 0x10);
	machine.ioapic.write(0x10, 8, 0xffffffff'00008041);
	EXPECT_EQ(machine.ioapic.read(0x10, 4), 0x8041u);
	EXPECT_EQ(machine.ioapic.read(0x10, 1), 0x41u);
	EXPECT_EQ(machine.ioapic.read(0x10, 2), 0x8041u);
	EXPECT_EQ(machine.ioapic.read(0x10, 8), 0x8041u);
	machine.ioapic.write(0x10, 2, 0xffff0042);
	EXPECT_EQ(machine.ioapic.read(0x10, 4), 0x42u);
}

TEST(Ioapic, AnEdgeIsDeliveredOnceAsTheEntrySays)
{
	Machine machine;
	machine.set_entry(4, u64{0x12} << 56 | 1 << 11 | 1 << 8 | 0x41);
	EXPECT_EQ(machine.raise(4), 1);
	ASSERT_EQ(machine.sent.size(), 1u);
	EXPECT_EQ(machine.sent[0], (Message{.destination = 0x12,
					   .vector = 0x41,
					   .delivery = Delivery::lowest_priority,
					   .logical = true,
					   .narrow = true}));
	EXPECT_EQ(machine.raise(4), delivery_coalesced) << "still high";
	EXPECT_EQ(machine.lower(4), 1);
	EXPECT_EQ(machine.raise(4), 1);
	EXPECT_EQ(machine.sent.size(), 2u);
	EXPECT_FALSE(machine.entry(4) & remote_irr);
}

TEST(Ioapic, ReportsWhatTheLocalApicsSaid)
{
	Machine machine;
	machine.set_entry(4, 0x41);
	for (int answer : {-1, 0, 1, 3}) {
		machine.answer = answer;
		EXPECT_EQ(machine.pulse(4), answer);
	}
	EXPECT_EQ(machine.pulse(5), delivery_ignored) << "masked";
}

TEST(Ioapic, AnEdgeOnAMaskedPinIsLostALevelIsNot)
{
	Machine machine;
	machine.set_entry(4, masked | 0x41);
	machine.set_entry(5, masked | level | 0x51);
	EXPECT_EQ(machine.raise(4), delivery_ignored);
	EXPECT_EQ(machine.raise(5), delivery_ignored);
	machine.set_entry(4, 0x41);
	machine.set_entry(5, level | 0x51);
	ASSERT_EQ(machine.sent.size(), 1u);
	EXPECT_EQ(machine.sent[0].vector, 0x51);
	EXPECT_TRUE(machine.sent[0].level);
}

TEST(Ioapic, ALevelWaitsForItsEnd)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	EXPECT_EQ(machine.raise(9), 1);
	EXPECT_TRUE(machine.entry(9) & remote_irr);
	EXPECT_EQ(machine.raise(9), delivery_coalesced);
	EXPECT_EQ(machine.sent.size(), 1u);
	machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 2u) << "still high";
	EXPECT_TRUE(machine.entry(9) & remote_irr);
	machine.lower(9);
	machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 2u);
	EXPECT_FALSE(machine.entry(9) & remote_irr);
	EXPECT_EQ(machine.acknowledged, (std::vector<unsigned>{9, 9}));
}

TEST(Ioapic, ALevelThatNobodyTookIsNotInService)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	machine.answer = delivery_ignored;
	EXPECT_EQ(machine.raise(9), delivery_ignored);
	EXPECT_FALSE(machine.entry(9) & remote_irr);
	machine.answer = delivery_coalesced;
	EXPECT_EQ(machine.raise(9), delivery_coalesced);
	EXPECT_TRUE(machine.entry(9) & remote_irr) << "it joined one that is on its way";
}

TEST(Ioapic, TheEndOfAnotherVectorOrASuppressedOneChangesNothing)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	machine.raise(9);
	EXPECT_FALSE(machine.ioapic.handles(0x52));
	machine.ioapic.end_of_interrupt(0x52, true);
	EXPECT_TRUE(machine.acknowledged.empty());
	EXPECT_TRUE(machine.ioapic.handles(0x51));
	machine.ioapic.end_of_interrupt(0x51, false);
	EXPECT_EQ(machine.acknowledged.size(), 1u) << "devices are told";
	EXPECT_TRUE(machine.entry(9) & remote_irr);
	EXPECT_EQ(machine.sent.size(), 1u);
}

TEST(Ioapic, ADeviceThatSamplesItsLineAgainIsServedOnce)
{
	Machine machine;
	machine.resampled = 9;
	machine.set_entry(9, level | 0x51);
	machine.raise(9);
	machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 1u) << "the line was lowered before it was looked at";
}

TEST(Ioapic, UnmaskingAsksSuchADeviceFirst)
{
	Machine machine;
	machine.resampled = 9;
	machine.set_entry(9, masked | level | 0x51);
	machine.raise(9);
	machine.set_entry(9, level | 0x51);
	EXPECT_TRUE(machine.sent.empty());
	machine.raise(9);
	EXPECT_EQ(machine.sent.size(), 1u);
}

TEST(Ioapic, SwitchingToEdgeEndsALevelInterrupt)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	machine.raise(9);
	machine.write(0x10 + 18, masked | 0x51);
	EXPECT_FALSE(machine.entry(9) & remote_irr);
	machine.write(0x10 + 18, level | 0x51);
	EXPECT_EQ(machine.sent.size(), 2u);
}

TEST(Ioapic, AGuestCannotWriteRemoteIrr)
{
	Machine machine;
	machine.set_entry(9, level | remote_irr | 0x51);
	EXPECT_FALSE(machine.entry(9) & remote_irr);
	machine.raise(9);
	machine.write(0x10 + 18, level | 0x52);
	EXPECT_TRUE(machine.entry(9) & remote_irr);
}

TEST(Ioapic, ALineIsHighWhileAnySourceHoldsIt)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	machine.raise(9, 0);
	machine.raise(9, 63);
	machine.lower(9, 0);
	machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 2u);
	machine.ioapic.drop_source(63);
	machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 2u);
}

TEST(Ioapic, PinsAndSourcesOutOfRangeAreIgnored)
{
	Machine machine;
	EXPECT_EQ(machine.ioapic.set_line(24, 0, true), delivery_ignored);
	EXPECT_EQ(machine.ioapic.set_line(~0u, 0, true), delivery_ignored);
	EXPECT_EQ(machine.ioapic.set_line(0, 64, true), delivery_ignored);
	machine.ioapic.drop_source(~0u);
}

TEST(Ioapic, AnEoiStormOnAStuckLineIsSlowedDown)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	machine.raise(9);
	for (unsigned n = 0; n < 50'000; ++n)
		if (machine.entry(9) & remote_irr)
			machine.ioapic.end_of_interrupt(0x51, true);
	EXPECT_EQ(machine.sent.size(), 10'000u) << "then it waits";
	EXPECT_FALSE(machine.entry(9) & remote_irr);
	clock().advance(9'999'999);
	EXPECT_EQ(machine.sent.size(), 10'000u);
	clock().advance(1);
	EXPECT_EQ(machine.sent.size(), 10'001u);
	EXPECT_TRUE(machine.entry(9) & remote_irr);
}

TEST(Ioapic, ALineThatFallsInBetweenIsNoStorm)
{
	Machine machine;
	machine.set_entry(9, level | 0x51);
	for (unsigned n = 0; n < 25'000; ++n) {
		EXPECT_EQ(machine.raise(9), 1);
		machine.lower(9);
		machine.ioapic.end_of_interrupt(0x51, true);
	}
	EXPECT_EQ(machine.sent.size(), 25'000u);
}

TEST(Ioapic, DiesWithAStormPending)
{
	{
		Machine machine;
		machine.set_entry(9, level | 0x51);
		machine.raise(9);
		for (unsigned n = 0; n < 10'000; ++n)
			machine.ioapic.end_of_interrupt(0x51, true);
	}
	clock().advance(20'000'000);
}

TEST(Ioapic, TellsWhenItsVectorsChange)
{
	Machine machine;
	machine.set_entry(9, u64{1} << 56 | level | 0x51);
	machine.set_entry(10, 0x71);
	EXPECT_EQ(machine.ioapic.vectors(), (std::array<u64, 4>{1, bit(0x11) | bit(0x31)}));
	const unsigned changes = machine.changes;
	machine.set_entry(10, u64{2} << 56 | 0x71);
	EXPECT_EQ(machine.changes, changes);
	machine.set_entry(10, 0);
	EXPECT_GT(machine.changes, changes);
	EXPECT_EQ(machine.ioapic.vectors(), (std::array<u64, 4>{1, bit(0x11)}));
}

TEST(Ioapic, StateRoundTrip)
{
	Machine from;
	from.write(0, 0x05000000);
	from.set_entry(4, 0x41);
	from.set_entry(9, u64{7} << 56 | level | 0x51);
	from.set_entry(10, masked | level | 0x61);
	from.raise(4);
	from.raise(9);
	from.raise(10);
	from.ioapic.write(0, 4, 0x21);
	kvm_ioapic_state saved;
	from.ioapic.get(saved);
	EXPECT_EQ(saved.base_address, 0xfec00000u);
	EXPECT_EQ(saved.irr, 1u << 9 | 1u << 10) << "the edge is delivered, it does not come along";

	Machine to;
	to.ioapic.set(saved);
	EXPECT_TRUE(to.sent.empty()) << "in service, or masked";
	kvm_ioapic_state again;
	to.ioapic.get(again);
	EXPECT_EQ(std::memcmp(&saved, &again, sizeof(saved)), 0);
	to.ioapic.end_of_interrupt(0x51, true);
	ASSERT_EQ(to.sent.size(), 1u);
	EXPECT_EQ(to.sent[0].destination, 7u);
	to.write(0x10 + 20, level | 0x61);
	EXPECT_EQ(to.sent.size(), 2u);
}

TEST(Ioapic, ARestoredLineThatIsNotYetDeliveredIs)
{
	Machine machine;
	kvm_ioapic_state state;
	machine.ioapic.get(state);
	state.redirtbl[4].bits = 0x41;
	state.redirtbl[9].bits = level | 0x51;
	state.irr = 1 << 4 | 1 << 9;
	machine.ioapic.set(state);
	EXPECT_EQ(machine.sent.size(), 2u);
}

TEST(Ioapic, LinesAreThoseOfTheRestoredState)
{
	Machine machine;
	machine.set_entry(10, masked | level | 0x61);
	machine.raise(10);
	kvm_ioapic_state state;
	machine.ioapic.get(state);
	state.irr = 0;
	machine.ioapic.set(state);
	machine.set_entry(10, level | 0x61);
	EXPECT_TRUE(machine.sent.empty());
}

TEST(Ioapic, AHostileStateIsMadeLegal)
{
	Machine machine;
	kvm_ioapic_state wild;
	std::memset(&wild, 0xff, sizeof(wild));
	machine.ioapic.set(wild);
	kvm_ioapic_state state;
	machine.ioapic.get(state);
	EXPECT_EQ(state.irr, 0xffffffu);
	EXPECT_EQ(state.id, 0xfu);
	EXPECT_EQ(state.ioregsel, 0xffu);
	EXPECT_EQ(state.redirtbl[0].bits, 0xff0000000001efffu);
	EXPECT_TRUE(machine.ioapic.contains(~u64{0}));
	EXPECT_TRUE(machine.ioapic.contains(0x10))
		<< "a window may wrap, an offset is always inside";
	wild.redirtbl[0].bits = remote_irr;
	machine.ioapic.set(wild);
	EXPECT_FALSE(machine.entry(0) & remote_irr) << "no edge is in service";
}

} // namespace kvmpp::tests
