// SPDX-License-Identifier: GPL-2.0-only
// A programmable interval timer on the simulated host, as the tests drive it.
#pragma once

#include <gtest/gtest.h>
#include "sim/clock.h"
#include "x86/devices/pit.h"

namespace kvmpp::tests
{

using namespace kvmpp::x86;
using sim::clock;

inline constexpr u64 ms = 1'000'000;

// Time of that many of the 8254's clocks.
inline u64 clocks(u64 count)
{
	return pit_clock::time_of(count);
}

struct PitMachine {
	unsigned interrupts = 0;
	bool line = false, acknowledges = true;
	int answer = 1;
	Pit pit{callback<&PitMachine::irq0>(*this)};

	int irq0(bool level)
	{
		EXPECT_NE(level, line) << "pulses";
		line = level;
		interrupts += level;
		return answer;
	}
	// Lets time pass as a guest that ends each interrupt does.
	void run(u64 ns)
	{
		const u64 end = clock().now() + ns;
		while (true) {
			const u64 next = clock().next_expiry();
			if (!next || next > end)
				break;
			const unsigned before = interrupts;
			clock().advance(next - clock().now());
			if (interrupts != before && acknowledges)
				pit.acknowledged();
		}
		clock().advance(end - clock().now());
	}
	void program(unsigned channel, unsigned mode, u16 count, bool bcd = false)
	{
		pit.write(0x43, channel << 6 | 0x30 | mode << 1 | bcd);
		pit.write(0x40 + channel, count & 0xff);
		pit.write(0x40 + channel, count >> 8);
	}
	u16 count(unsigned channel)
	{
		pit.write(0x43, channel << 6);
		const u8 low = pit.read(0x40 + channel);
		return low | pit.read(0x40 + channel) << 8;
	}
	u8 status(unsigned channel)
	{
		pit.write(0x43, 0xe0 | 2 << channel);
		return pit.read(0x40 + channel);
	}
	bool out2() { return pit.read(0x61) & 0x20; }
	void gate2(bool gate) { pit.write(0x61, gate); }
};

} // namespace kvmpp::tests
