// SPDX-License-Identifier: GPL-2.0-only
// Random numbers that a seed repeats (SplitMix64), shaped as operands like to be.
#pragma once

#include "host/types.h"

namespace kvmpp::x86::emulator::differential
{

class Random {
public:
	explicit Random(u64 seed) : state_{seed} {}

	u64 next()
	{
		u64 z = state_ += 0x9e3779b97f4a7c15;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		return z ^ z >> 31;
	}
	u64 below(u64 limit) { return next() % limit; }
	u64 between(u64 low, u64 high) { return low + below(high - low + 1); }
	bool one_in(u64 n) { return below(n) == 0; }

	// Corner values are as likely as all others together.
	u64 operand()
	{
		switch (below(8)) {
		case 0: return below(4);
		case 1: return ~below(4);
		case 2: return bit(static_cast<unsigned>(below(64)));
		case 3: return bit(static_cast<unsigned>(below(64))) - 1;
		case 4: return next() >> below(64);
		default: return next();
		}
	}

private:
	u64 state_;
};

} // namespace kvmpp::x86::emulator::differential
