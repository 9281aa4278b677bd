// SPDX-License-Identifier: GPL-2.0-only
// The short way of plain moves comes to what the long way does: a segment prefix that means nothing
// sends the same instruction there.
#include "tests/emulator/differential/random.h"
#include "tests/emulator/machine.h"
#include "x86/emulator/plain_move.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

class PlainMoves : public Emulator {
protected:
	// Whether the short way takes it.
	bool applies(std::initializer_list<u8> code)
	{
		Executed executed;
		std::copy(code.begin(), code.end(), executed.bytes);
		executed.byte_count = static_cast<u8>(code.size());
		Registers registers{guest.gpr, guest.rip, guest.rflags};
		return PlainMove{executed, registers}.applies();
	}
};

} // namespace

TEST_F(PlainMoves, WhatDriversUse)
{
	guest.gpr[Gpr::rbx] = place::device;
	EXPECT_TRUE(applies({0x8b, 0x03}));
	EXPECT_TRUE(applies({0x89, 0x43, 0x10}));
	EXPECT_TRUE(applies({0x66, 0x89, 0x03}));
	EXPECT_TRUE(applies({0x48, 0x8b, 0x83, 0, 1, 0, 0}));
	EXPECT_TRUE(applies({0xc7, 0x03, 1, 2, 3, 4}));
	EXPECT_TRUE(applies({0x0f, 0xb6, 0x03}));
	EXPECT_TRUE(applies({0x48, 0x63, 0x03}));
	EXPECT_TRUE(applies({0xa1, 0, 0, 2, 0, 0, 0, 0, 0}));
	EXPECT_TRUE(applies({0x8b, 0x05, 0, 0, 0, 0}));
}

TEST_F(PlainMoves, WhatIsUnusualGoesTheLongWay)
{
	guest.gpr[Gpr::rbx] = place::device;
	EXPECT_FALSE(applies({0x8b, 0xc3}));		 // between registers
	EXPECT_FALSE(applies({0x88, 0x23}));		 // AH
	EXPECT_FALSE(applies({0x65, 0x8b, 0x03}));	 // GS
	EXPECT_FALSE(applies({0x67, 0x8b, 0x03}));	 // a narrow address
	EXPECT_FALSE(applies({0xf0, 0x89, 0x03}));	 // LOCK
	EXPECT_FALSE(applies({0x03, 0x03}));		 // it computes
	EXPECT_FALSE(applies({0xc7, 0x0b, 1, 2, 3, 4})); // not MOV
	EXPECT_FALSE(applies({0x8b}));			 // not all there
	EXPECT_FALSE(applies({0xc7, 0x03, 1, 2, 3}));	 // nor this
	EXPECT_FALSE(applies({0xa1, 0, 0, 2, 0, 0, 0, 0}));
	guest.rflags |= X86_EFLAGS_AC;
	EXPECT_FALSE(applies({0x8b, 0x03}));
	guest.rflags &= ~u64{X86_EFLAGS_AC};
	guest.gpr[Gpr::rbx] = bit(47) - 4;
	EXPECT_FALSE(applies({0x8b, 0x03}));
}

TEST_F(PlainMoves, BothWaysAgree)
{
	constexpr u8 opcodes[] = {0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7, 0x63};
	constexpr u8 extensions[] = {0xb6, 0xb7, 0xbe, 0xbf};
	differential::Random random{7};
	unsigned shorts = 0;
	for (unsigned n = 0; n < 20000; ++n) {
		std::vector<u8> code;
		if (random.one_in(4))
			code.push_back(0x66);
		if (random.one_in(2))
			code.push_back(static_cast<u8>(0x40 | random.below(16)));
		if (random.one_in(3)) {
			code.push_back(0x0f);
			code.push_back(extensions[random.below(4)]);
		} else {
			code.push_back(opcodes[random.below(sizeof(opcodes))]);
		}
		while (code.size() < 14)
			code.push_back(static_cast<u8>(random.one_in(3) ? 0 : random.next()));

		Gprs start;
		for (u64 &value : start.values)
			value = place::data + random.below(0x400);
		const auto execute_from = [&](std::span<const u8> bytes, u64 rip) {
			guest.forget();
			guest.gpr = start;
			guest.rip = rip;
			guest.rflags = MadeUpGuest::flag_fixed;
			guest.poke(place::data + 0x100, 0x8899aabbccddeeff, 8);
			guest.poke(rip, bytes);
			return guest.step();
		};
		std::vector<u8> with_prefix{0x3e};
		with_prefix.insert(with_prefix.end(), code.begin(), code.end());
		const Outcome<> longer = execute_from(with_prefix, place::code - 1);
		const Gprs after = guest.gpr;
		const u64 rip = guest.rip, memory = guest.peek(place::data + 0x100, 8);
		const std::vector<Exception> raised = guest.raised;
		const Outcome<> shorter = execute_from(code, place::code);
		ASSERT_EQ(shorter.has_value(), longer.has_value())
			<< ::testing::PrintToString(code);
		ASSERT_EQ(guest.gpr.values, after.values) << ::testing::PrintToString(code);
		ASSERT_EQ(guest.peek(place::data + 0x100, 8), memory);
		ASSERT_EQ(guest.raised, raised) << ::testing::PrintToString(code);
		if (shorter) {
			ASSERT_EQ(guest.rip, rip);
		}
		shorts += shorter.has_value();
	}
	EXPECT_GT(shorts, 1000u);
}

} // namespace kvmpp::x86::emulator::test
