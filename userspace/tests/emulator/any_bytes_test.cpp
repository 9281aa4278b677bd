// SPDX-License-Identifier: GPL-2.0-only
// Arbitrary bytes in every mode, for a few seconds; userspace/fuzz does it for longer.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include "tests/emulator/any_bytes.h"
#include "tests/emulator/differential/random.h"

namespace kvmpp::x86::emulator::test
{

TEST(AnyBytes, NeverBreakTheEmulator)
{
	using Clock = std::chrono::steady_clock;
	const auto end = Clock::now() + std::chrono::seconds{5};
	const u64 seed = static_cast<u64>(Clock::now().time_since_epoch().count());
	differential::Random random{seed};
	RecordProperty("seed", std::to_string(seed));
	u64 tried = 0;
	while (Clock::now() < end)
		for (unsigned n = 0; n < 256; ++n, ++tried) {
			u8 bytes[24];
			for (u8 &byte : bytes)
				byte = static_cast<u8>(random.operand());
			// Opcodes behind 0F are as many again.
			if (random.one_in(3))
				bytes[5] = 0x0f;
			try_bytes(bytes);
		}
	printf("%llu tried\n", static_cast<unsigned long long>(tried));
}

} // namespace kvmpp::x86::emulator::test
