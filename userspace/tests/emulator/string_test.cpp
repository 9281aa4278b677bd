// SPDX-License-Identifier: GPL-2.0-only
// String instructions: repetition, restart after part of it, direction, segments, ports.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

class String : public Emulator {
protected:
	void set(u64 from, u64 to, u64 count)
	{
		guest.gpr[Gpr::rsi] = from;
		guest.gpr[Gpr::rdi] = to;
		guest.gpr[Gpr::rcx] = count;
	}
	// Goes on with an instruction that did not retire.
	void finish()
	{
		for (unsigned n = 0; n < 100 && !guest.executed.retired; ++n)
			ASSERT_TRUE(guest.step().has_value());
		EXPECT_TRUE(guest.executed.retired);
	}
};

} // namespace

TEST_F(String, MovesForwardsAndBackwards)
{
	for (Mode mode : {Mode::real, Mode::protected32, Mode::long64}) {
		become(mode, 0);
		for (unsigned i = 0; i < 16; ++i)
			guest.poke(place::data + i, i + 1, 1);
		set(place::data, place::data + 0x100, 16);
		completes({0xf3, 0xa4});
		EXPECT_EQ(guest.peek(place::data + 0x108, 8), 0x100f0e0d0c0b0a09u);
		EXPECT_EQ(guest.gpr[Gpr::rcx], 0u);
		EXPECT_EQ(guest.gpr[Gpr::rsi], place::data + 16);
		guest.rip = place::code;
		guest.rflags |= X86_EFLAGS_DF;
		set(place::data + 15, place::data + 0x20f, 16);
		completes({0xf3, 0xa4});
		EXPECT_EQ(guest.peek(place::data + 0x208, 8), 0x100f0e0d0c0b0a09u);
		EXPECT_EQ(guest.gpr[Gpr::rdi], place::data + 0x1ff);
	}
}

TEST_F(String, CountsInTheAddressSize)
{
	become(Mode::protected32, 0);
	set(0x1'0000 | place::data, 0xffff'0000, 0x1'0000);
	completes({0x67, 0xf3, 0xa4}); // CX is 0
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0x1'0000u);
	become(Mode::real, 0);
	guest.poke(0xffff, 0x5a, 1);
	set(0xffff, place::data, 1);
	completes({0xf3, 0xa4});
	EXPECT_EQ(guest.gpr[Gpr::rsi], 0u); // SI wraps, and nothing else changes
	EXPECT_EQ(guest.peek(place::data, 1), 0x5au);
}

TEST_F(String, AFaultInTheMiddleKeepsWhatIsDone)
{
	set(place::data, place::end - 4, 8);
	guest.poke(place::data, 0x0807060504030201, 8);
	const Outcome<> outcome = guest.run({0xf3, 0xa4});
	ASSERT_FALSE(outcome.has_value());
	ASSERT_EQ(guest.raised.size(), 1u);
	EXPECT_EQ(guest.raised[0], Exception::page_fault(place::end, page_fault_code::write));
	EXPECT_EQ(guest.gpr[Gpr::rcx], 4u);
	EXPECT_EQ(guest.gpr[Gpr::rsi], place::data + 4);
	EXPECT_EQ(guest.gpr[Gpr::rdi], place::end);
	EXPECT_EQ(guest.rip, place::code);
	// With the page in place it goes on where it was.
	guest.add_ram(place::end, page_size);
	guest.raised.clear();
	ASSERT_TRUE(guest.step().has_value());
	finish();
	EXPECT_EQ(guest.peek(place::end - 4, 8), 0x0807060504030201u);
	EXPECT_EQ(guest.rip, place::code + 2);
}

TEST_F(String, ComparisonEndsByCondition)
{
	guest.poke(place::data, 0x6161616261616161, 8);
	guest.poke(place::data + 0x100, 0x6161616161616161, 8);
	set(place::data, place::data + 0x100, 8);
	completes({0xf3, 0xa6}); // REPE CMPSB
	EXPECT_EQ(guest.gpr[Gpr::rcx], 3u);
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_ZF);
	guest.rip = place::code;
	set(0, place::data, 8);
	guest.gpr[Gpr::rax] = 'b';
	completes({0xf2, 0xae}); // REPNE SCASB
	EXPECT_EQ(guest.gpr[Gpr::rcx], 3u);
	EXPECT_EQ(guest.gpr[Gpr::rdi], place::data + 5);
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_ZF);
	guest.rip = place::code;
	set(0, place::data, 0);
	guest.rflags = MadeUpGuest::flag_fixed | X86_EFLAGS_CF;
	completes({0xf3, 0xaf}); // nothing is compared: flags stay
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | X86_EFLAGS_CF);
}

TEST_F(String, StopsBetweenIterationsForOthers)
{
	set(place::data, place::data + 0x100, 10);
	guest.iterations_allowed = 3;
	completes({0xf3, 0xa4});
	EXPECT_FALSE(guest.executed.retired);
	EXPECT_EQ(guest.gpr[Gpr::rcx], 7u);
	EXPECT_EQ(guest.rip, place::code);
	guest.iterations_allowed = ~0u;
	ASSERT_TRUE(guest.step().has_value());
	finish();
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0u);
}

TEST_F(String, AVeryLongOneIsLeftNowAndThen)
{
	set(place::data, 0, 1u << 30);
	completes({0xf3, 0xac}); // REP LODSB
	EXPECT_FALSE(guest.executed.retired);
	EXPECT_LT(guest.gpr[Gpr::rcx], 1u << 30);
}

TEST_F(String, SingleStepStopsAfterEachIteration)
{
	set(place::data, place::data + 0x100, 3);
	guest.rflags |= X86_EFLAGS_TF;
	completes({0xf3, 0xa4});
	EXPECT_EQ(guest.gpr[Gpr::rcx], 2u);
}

TEST_F(String, SegmentsAndLimits)
{
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::fs)].base = 0x100;
	guest.segments[static_cast<u8>(SegmentName::es)].base = 0x200;
	guest.poke(place::data + 0x100, 0x77, 1);
	set(place::data, place::data, 1);
	completes({0x64, 0xa4}); // MOVSB ES:[EDI], FS:[ESI]
	EXPECT_EQ(guest.peek(place::data + 0x200, 1), 0x77u);
	guest.segments[static_cast<u8>(SegmentName::es)].limit = place::data + 2;
	set(place::data, place::data, 2);
	raises({0xa5}, Exception::gp()); // the override does not reach ES:EDI
	guest.segments[static_cast<u8>(SegmentName::es)].rights.raw &= ~2u; // read-only
	raises({0xaa}, Exception::gp());
}

// --- ports ---------------------------------------------------------------------------------------

TEST_F(String, InputInBlocks)
{
	guest.port_input[0x1f0] = {0x1111, 0x2222, 0x3333, 0x4444};
	guest.ports_at_once = 3;
	set(0, place::data, 4);
	guest.gpr[Gpr::rdx] = 0x1f0;
	completes({0x66, 0xf3, 0x6d}); // REP INSW
	finish();
	EXPECT_EQ(guest.peek(place::data, 8), 0x4444333322221111u);
	EXPECT_EQ(guest.port_reads.size(), 4u);
	EXPECT_EQ(guest.gpr[Gpr::rdi], place::data + 8);
}

TEST_F(String, InputThatWaitsIsNotAskedForTwice)
{
	guest.ports_pend = true;
	guest.ports_at_once = 8;
	guest.port_input[0x60] = {1, 2};
	set(0, place::data, 2);
	guest.gpr[Gpr::rdx] = 0x60;
	const Outcome<> outcome = guest.run({0xf3, 0x6c}); // REP INSB
	ASSERT_FALSE(outcome.has_value());
	EXPECT_EQ(outcome.error(), Stop::pending);
	EXPECT_EQ(guest.gpr[Gpr::rcx], 2u);
	ASSERT_TRUE(guest.step().has_value());
	finish();
	EXPECT_EQ(guest.port_reads.size(), 2u);
	EXPECT_EQ(guest.peek(place::data, 2), 0x0201u);
}

TEST_F(String, InputLooksFirstWhetherItCanBeStored)
{
	guest.port_input[0x60] = {1};
	set(0, place::end, 1);
	guest.gpr[Gpr::rdx] = 0x60;
	raises({0xf3, 0x6c}, Exception::page_fault(place::end, page_fault_code::write));
	EXPECT_TRUE(guest.port_reads.empty());
}

TEST_F(String, OutputInBlocksAndOneByOne)
{
	guest.ports_at_once = 64;
	guest.poke(place::data, 0x44332211, 4);
	set(place::data, 0, 4);
	guest.gpr[Gpr::rdx] = 0x3f8;
	completes({0xf3, 0x6e}); // REP OUTSB
	const std::vector<PortAccess> expected{
		{0x3f8, 0x11, 1}, {0x3f8, 0x22, 1}, {0x3f8, 0x33, 1}, {0x3f8, 0x44, 1}};
	EXPECT_EQ(guest.port_writes, expected);
	guest.rip = place::code;
	guest.port_writes.clear();
	guest.rflags |= X86_EFLAGS_DF;
	set(place::data + 2, 0, 2);
	completes({0x66, 0xf3, 0x6f}); // REP OUTSW, downwards
	finish();
	EXPECT_EQ(guest.port_writes,
		(std::vector<PortAccess>{{0x3f8, 0x4433, 2}, {0x3f8, 0x2211, 2}}));
}

} // namespace kvmpp::x86::emulator::test
