// SPDX-License-Identifier: GPL-2.0-only
// PUSH, POP and what goes through the stack, by operand size, stack width and mode.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

class StackOperations : public Emulator {
protected:
	void narrow_stack()
	{
		guest.segments[static_cast<u8>(SegmentName::ss)].rights.raw &= ~0x4000u;
	}
};

} // namespace

TEST_F(StackOperations, PushAndPopByOperandSize)
{
	struct Case {
		Mode mode;
		std::initializer_list<u8> push, pop;
		unsigned size;
	} cases[] = {
		{Mode::long64, {0x50}, {0x5b}, 8},
		{Mode::long64, {0x66, 0x50}, {0x66, 0x5b}, 2},
		{Mode::protected32, {0x50}, {0x5b}, 4},
		{Mode::protected32, {0x66, 0x50}, {0x66, 0x5b}, 2},
		{Mode::real, {0x50}, {0x5b}, 2},
		{Mode::real, {0x66, 0x50}, {0x66, 0x5b}, 4},
	};
	for (const Case &c : cases) {
		become(c.mode, 0);
		guest.gpr[Gpr::rax] = 0x1122334455667788;
		guest.gpr[Gpr::rbx] = 0;
		completes(c.push);
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - c.size);
		completes(c.pop);
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
		EXPECT_EQ(guest.gpr[Gpr::rbx], guest.gpr[Gpr::rax] & bits(8 * c.size - 1, 0));
	}
}

TEST_F(StackOperations, A16BitStackWrapsAndKeepsTheUpperHalf)
{
	become(Mode::protected32, 0);
	narrow_stack();
	guest.gpr[Gpr::rsp] = 0xabcd'0000;
	completes({0x50}); // PUSH EAX
	EXPECT_EQ(guest.gpr[Gpr::rsp], 0xabcd'fffcu);
	EXPECT_EQ(guest.peek(0xfffc, 4), 0x1000u);
	completes({0x5b});
	EXPECT_EQ(guest.gpr[Gpr::rsp], 0xabcd'0000u);
}

TEST_F(StackOperations, PushOfRspPushesItsOldValue)
{
	completes({0x54});
	EXPECT_EQ(stacked(0, 8), place::stack);
	guest.poke(place::stack - 8, 0x1234, 8);
	completes({0x5c}); // POP RSP
	EXPECT_EQ(guest.gpr[Gpr::rsp], 0x1234u);
}

TEST_F(StackOperations, PopToMemoryComputesItsAddressAfterwards)
{
	guest.poke(place::stack, 0x5a5a, 8);
	completes({0x8f, 0x04, 0x24}); // POP [RSP]
	EXPECT_EQ(guest.peek(place::stack + 8, 8), 0x5a5au);
}

TEST_F(StackOperations, SegmentsPushOnlyTheirSelectorInA32BitSlot)
{
	become(Mode::protected32, 0);
	guest.poke(place::stack - 4, 0xffff'ffff, 4);
	completes({0x1e}); // PUSH DS
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - 4);
	EXPECT_EQ(stacked(0, 4), 0xffff'0000u | selector::data0);
}

TEST_F(StackOperations, FaultsOfTheStackSegment)
{
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::ss)].limit = 0x6fff;
	raises({0x50}, Exception::coded(Vector::stack_fault, 0));
	raises({0x8b, 0x04, 0x24}, Exception::coded(Vector::stack_fault, 0)); // MOV EAX, [ESP]
	become(Mode::long64, 0);
	guest.gpr[Gpr::rsp] = bit(47) + 4;
	raises({0x50}, Exception::coded(Vector::stack_fault, 0));
	guest.gpr[Gpr::rsp] = place::end + 8;
	raises({0x50}, Exception::page_fault(place::end, page_fault_code::write));
}

TEST_F(StackOperations, ExpandDownStack)
{
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::ss)] = {
		selector::data0, 0x6fff, 0, {0x4097}}; // above the limit, up to 4 GiB
	completes({0x50});
	guest.gpr[Gpr::rsp] = 0x7004;
	completes({0x50});
	guest.gpr[Gpr::rsp] = 0x7003;
	raises({0x50}, Exception::coded(Vector::stack_fault, 0));
}

TEST_F(StackOperations, AllRegisters)
{
	for (Mode mode : {Mode::real, Mode::protected32}) {
		become(mode, 0);
		const unsigned size = mode == Mode::real ? 2 : 4;
		completes({0x60}); // PUSHA
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - 8 * size);
		const u64 expected[] = {
			0x1007, 0x1006, 0x1005, place::stack, 0x1003, 0x1002, 0x1001, 0x1000};
		for (unsigned i = 0; i < 8; ++i)
			EXPECT_EQ(stacked(i, size), expected[i]);
		for (unsigned i = 0; i < 8; ++i)
			guest.poke(guest.gpr[Gpr::rsp] + i * size, 0x2000 + i, size);
		completes({0x61}); // POPA
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
		EXPECT_EQ(guest.gpr[Gpr::rdi], 0x2000u);
		EXPECT_EQ(guest.gpr[Gpr::rax], 0x2007u);
	}
}

TEST_F(StackOperations, AFaultOfPushaLeavesNothingBehind)
{
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::ss)].limit = place::stack - 17;
	const u64 before = guest.peek(place::stack - 16, 8);
	raises({0x60}, Exception::coded(Vector::stack_fault, 0));
	EXPECT_EQ(guest.peek(place::stack - 16, 8), before);
}

TEST_F(StackOperations, FramesWithLevels)
{
	for (Mode mode : {Mode::real, Mode::protected32, Mode::long64}) {
		become(mode, 0);
		const unsigned size = mode == Mode::real ? 2 : mode == Mode::long64 ? 8 : 4;
		guest.gpr[Gpr::rbp] = 0x8800;
		guest.poke(0x8800 - size, 0x1111, size);
		completes({0xc8, 0x10, 0x00, 0x02}); // ENTER 16, 2
		const u64 frame = place::stack - size;
		EXPECT_EQ(guest.gpr[Gpr::rbp], frame);
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - 3 * size - 16);
		EXPECT_EQ(guest.peek(frame, size), 0x8800u);
		EXPECT_EQ(guest.peek(frame - size, size), 0x1111u);
		EXPECT_EQ(guest.peek(frame - 2 * size, size), frame);
		completes({0xc9}); // LEAVE
		EXPECT_EQ(guest.gpr[Gpr::rbp], 0x8800u);
		EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
	}
}

// What ENTER copies may be what it has just pushed.
TEST_F(StackOperations, FramePointersThatOverlapTheNewFrame)
{
	guest.gpr[Gpr::rbp] = place::stack;
	completes({0xc8, 0x00, 0x00, 0x03});
	EXPECT_EQ(guest.peek(place::stack - 8, 8), place::stack);  // RBP
	EXPECT_EQ(guest.peek(place::stack - 16, 8), place::stack); // what was pushed just now
	EXPECT_EQ(guest.peek(place::stack - 24, 8), place::stack);
	EXPECT_EQ(guest.peek(place::stack - 32, 8), place::stack - 8);
}

// --- flags ---------------------------------------------------------------------------------------

TEST_F(StackOperations, FlagsByPrivilege)
{
	constexpr u64 iopl = X86_EFLAGS_IOPL, interrupt = X86_EFLAGS_IF;
	struct Case {
		unsigned cpl;
		u64 before, popped, after;
	} cases[] = {
		{0, 0, iopl | interrupt, iopl | interrupt},
		{3, 0, iopl | interrupt, 0},
		{3, iopl, interrupt, iopl | interrupt}, // IOPL itself stays
		{3, iopl | interrupt, 0, iopl},
	};
	for (const Case &c : cases) {
		become(Mode::protected32, c.cpl);
		guest.rflags = MadeUpGuest::flag_fixed | c.before;
		guest.poke(place::stack, c.popped, 4);
		completes({0x9d}); // POPF
		EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | c.after);
	}
}

TEST_F(StackOperations, FlagsThatPushfDoesNotShow)
{
	become(Mode::protected32, 0);
	guest.rflags = MadeUpGuest::flag_fixed | X86_EFLAGS_RF | X86_EFLAGS_AC;
	completes({0x9c});
	EXPECT_EQ(stacked(0, 4), MadeUpGuest::flag_fixed | X86_EFLAGS_AC);
}

TEST_F(StackOperations, FlagsIn8086Mode)
{
	become(Mode::virtual8086, 3);
	raises({0x9c}, Exception::gp());
	raises({0x9d}, Exception::gp());
	guest.rflags |= X86_EFLAGS_IOPL;
	completes({0x9c});
	EXPECT_EQ(stacked(0, 2), MadeUpGuest::flag_fixed | X86_EFLAGS_IOPL);

	// With CR4.VME the virtual interrupt flag stands in for IF.
	become(Mode::virtual8086, 3);
	guest.cr[4] |= X86_CR4_VME;
	guest.rflags |= X86_EFLAGS_VIF;
	completes({0x9c});
	EXPECT_EQ(stacked(0, 2), MadeUpGuest::flag_fixed | X86_EFLAGS_IOPL | X86_EFLAGS_IF);
	guest.poke(guest.gpr[Gpr::rsp], MadeUpGuest::flag_fixed, 2);
	completes({0x9d});
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_VIF);
	guest.poke(guest.gpr[Gpr::rsp], X86_EFLAGS_TF, 2);
	raises({0x9d}, Exception::gp());
	guest.rflags |= X86_EFLAGS_VIP;
	guest.poke(guest.gpr[Gpr::rsp], X86_EFLAGS_IF, 2);
	raises({0x9d}, Exception::gp());
	raises({0x66, 0x9c}, Exception::gp());
}

TEST_F(StackOperations, NearCallsAndReturns)
{
	completes({0xe8, 0x10, 0x00, 0x00, 0x00});
	EXPECT_EQ(guest.rip, place::code + 5 + 0x10);
	EXPECT_EQ(stacked(0, 8), place::code + 5);
	completes({0xc2, 0x08, 0x00}); // RET 8
	EXPECT_EQ(guest.rip, place::code + 5);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack + 8);
	guest.poke(guest.gpr[Gpr::rsp], bit(47), 8);
	raises({0xc3}, Exception::gp());
	become(Mode::real, 0);
	completes({0xe8, 0x10, 0x00});
	EXPECT_EQ(stacked(0, 2), place::code + 3);
}

TEST_F(StackOperations, AlignmentChecksAtLevel3)
{
	become(Mode::long64, 3);
	guest.rflags |= X86_EFLAGS_AC;
	guest.gpr[Gpr::rbx] = place::data + 1;
	completes({0x8a, 0x03}); // a byte is always aligned
	raises({0x8b, 0x03}, Exception::coded(Vector::alignment_check, 0));
	raises({0x66, 0x89, 0x03}, Exception::coded(Vector::alignment_check, 0));
	guest.gpr[Gpr::rsp] = place::stack + 4;
	raises({0x50}, Exception::coded(Vector::alignment_check, 0));
	guest.cr[0] &= ~u64{X86_CR0_AM};
	completes({0x8b, 0x03});
	become(Mode::long64, 0);
	guest.rflags |= X86_EFLAGS_AC;
	guest.gpr[Gpr::rbx] = place::data + 1;
	completes({0x8b, 0x03});
}

} // namespace kvmpp::x86::emulator::test
