// SPDX-License-Identifier: GPL-2.0-only
// Delivery of interrupts and exceptions from every mode, INT n, IRET, and tasks.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

using namespace selector;
using Kind = Event::Kind;

constexpr u64 IF = X86_EFLAGS_IF, TF = X86_EFLAGS_TF, NT = X86_EFLAGS_NT, RF = X86_EFLAGS_RF;
constexpr u32 in_idt = 2, external = 1;

class Events : public Emulator {
protected:
	Events() { become(Mode::protected32, 0); }
	void fails(const Event &event, const Exception &exception)
	{
		guest.raised.clear();
		ASSERT_FALSE(guest.deliver_event(event).has_value());
		ASSERT_EQ(guest.raised.size(), 1u);
		EXPECT_EQ(guest.raised[0], exception);
	}
	void succeeds(const Event &event) { ASSERT_TRUE(guest.deliver_event(event).has_value()); }
};

class Tasks : public Emulator {
protected:
	Tasks()
	{
		become(Mode::protected32, 0);
		guest.poke(place::tss2 + 32, place::handler, 4);
		guest.poke(place::tss2 + 36, MadeUpGuest::flag_fixed, 4);
		for (unsigned i = 0; i < 8; ++i)
			guest.poke(place::tss2 + 40 + 4 * i, 0x2000 + i, 4);
		guest.poke(place::tss2 + 56, place::inner_stack, 4); // ESP
		const u16 segments[] = {data0, code0, data0, data0, data3, 0};
		for (unsigned i = 0; i < 6; ++i)
			guest.poke(place::tss2 + 72 + 4 * i, segments[i], 4);
		guest.poke(place::tss2 + 96, 0, 4);  // LDT
		guest.poke(place::tss2 + 100, 0, 2); // T
	}
	u64 type_of(u16 selector) const { return guest.peek(place::gdt + selector + 5, 1) & 0xf; }
};

constexpr std::initializer_list<u8> jump_to_task{0xea, 0, 0, 0, 0, tss2, 0},
	call_task{0x9a, 0, 0, 0, 0, tss2, 0};

} // namespace

TEST_F(Events, SameLevel)
{
	set_idt_entry(14, gate(code0, place::handler, 0x8e));
	guest.rflags |= IF | TF | NT;
	succeeds({14, Kind::exception, 0x5});
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - 16);
	EXPECT_EQ(stacked(0, 4), 5u);
	EXPECT_EQ(stacked(1, 4), place::code);
	EXPECT_EQ(stacked(2, 4), code0);
	EXPECT_EQ(stacked(3, 4), MadeUpGuest::flag_fixed | IF | TF | NT | RF);
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed);
	// A trap gate leaves IF alone; an interrupt's RFLAGS image has no RF.
	become(Mode::protected32, 0);
	guest.rflags |= IF;
	set_idt_entry(0x40, gate(code0, place::handler, 0x8f));
	succeeds({0x40, Kind::external, {}});
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | IF);
	EXPECT_EQ(stacked(2, 4), MadeUpGuest::flag_fixed | IF);
}

TEST_F(Events, InwardAndBack)
{
	become(Mode::protected32, 3);
	set_idt_entry(0x40, gate(code0, place::handler, 0x8e));
	guest.rflags |= IF;
	succeeds({0x40, Kind::external, {}});
	EXPECT_EQ(guest.current_cpl, 0u);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack - 20);
	EXPECT_EQ(stacked(3, 4), place::stack);
	EXPECT_EQ(stacked(4, 4), data3);
	completes({0xcf}); // IRET
	EXPECT_EQ(guest.rip, place::code);
	EXPECT_EQ(guest.current_cpl, 3u);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | IF);
	EXPECT_EQ(guest.nmi_unblocks, 1u);
}

TEST_F(Events, WhatGatesMustBe)
{
	guest.idtr.limit = 0x40 * 8 + 6;
	fails({0x40, Kind::external, {}}, Exception::gp(0x40 << 3 | in_idt | external));
	fails({0x40, Kind::software_interrupt, {}}, Exception::gp(0x40 << 3 | in_idt));
	guest.idtr.limit = 0x7ff;
	set_idt_entry(0x40, gate(code0, 0, 0x8c));
	fails({0x40, Kind::external, {}}, Exception::gp(0x40 << 3 | in_idt | external));
	set_idt_entry(0x40, gate(code0, 0, 0x0e));
	fails({0x40, Kind::external, {}},
		Exception::coded(Vector::segment_not_present, 0x40 << 3 | in_idt | external));
	set_idt_entry(0x40, gate(0, 0, 0x8e));
	fails({0x40, Kind::external, {}}, Exception::gp(external));
	set_idt_entry(0x40, gate(code3, 0, 0x8e)); // outward
	fails({0x40, Kind::external, {}}, Exception::gp((code3 & ~3) | external));
}

TEST_F(Events, SoftwareInterruptsCheckTheGate)
{
	become(Mode::protected32, 3);
	set_idt_entry(0x80, gate(code0, place::handler, 0x8e));
	raises({0xcd, 0x80}, Exception::gp(0x80 << 3 | in_idt));
	set_idt_entry(0x80, gate(code0, place::handler, 0xee));
	completes({0xcd, 0x80});
	EXPECT_EQ(stacked(0, 4), place::code + 2);
	become(Mode::protected32, 3);
	set_idt_entry(1, gate(code0, place::handler, 0x8e));
	completes({0xf1}); // INT1 does not ask
	become(Mode::protected32, 3);
	completes({0xce}); // INTO without OF
	EXPECT_EQ(guest.rip, place::code + 1);
	guest.rflags |= X86_EFLAGS_OF;
	set_idt_entry(4, gate(code0, place::handler, 0xee));
	completes({0xce});
	EXPECT_EQ(guest.rip, place::handler);
}

TEST_F(Events, SoftwareInterruptsPushNoResumeFlag)
{
	become(Mode::protected32, 0);
	set_idt_entry(0x80, gate(code0, place::handler, 0x8f));
	guest.rflags |= RF;
	completes({0xcd, 0x80});
	EXPECT_EQ(stacked(2, 4), MadeUpGuest::flag_fixed);
}

TEST_F(Events, Int1LetsItsHandlerUseTheDebugRegisters)
{
	become(Mode::protected32, 0);
	set_idt_entry(1, gate(code0, place::handler, 0x8f));
	guest.dr[7] = 0x400 | bit(13);
	completes({0xf1});
	EXPECT_EQ(guest.dr[7], 0x400u);
}

TEST_F(Events, In64BitMode)
{
	become(Mode::long64, 3);
	set_idt_entry(14, gate(code64, place::handler, 0x8e), 0);
	guest.gpr[Gpr::rsp] = place::stack + 5;
	succeeds({14, Kind::exception, 4});
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack - 48);
	const u64 expected[] = {
		4, place::code, code64_3, MadeUpGuest::flag_fixed | RF, place::stack + 5, data3};
	for (unsigned i = 0; i < 6; ++i)
		EXPECT_EQ(stacked(i, 8), expected[i]) << i;
	EXPECT_TRUE(segment(SegmentName::ss).rights.unusable());
	guest.gpr[Gpr::rsp] += 8;
	completes({0x48, 0xcf}); // IRETQ
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack + 5);
	EXPECT_EQ(guest.current_cpl, 3u);
	// The same level: the stack is aligned, and SS:RSP pushed all the same.
	become(Mode::long64, 0);
	guest.gpr[Gpr::rsp] = place::stack + 5;
	succeeds({14, Kind::exception, 4});
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack - 48);
	// By an entry of the interrupt stack table.
	become(Mode::long64, 0);
	guest.poke(place::tss + 0x24 + 8 * 1, 0x6800, 8);
	set_idt_entry(8, gate(code64, place::handler, 0x8e, 2), 0);
	succeeds({8, Kind::exception, 0});
	EXPECT_EQ(guest.gpr[Gpr::rsp], 0x6800u - 48);
	// Code of 32 bits, and stacks that are not canonical.
	set_idt_entry(14, gate(code0, place::handler, 0x8e), 0);
	fails({14, Kind::exception, 0}, Exception::gp(code0 | external));
	become(Mode::long64, 3);
	set_idt_entry(14, gate(code64, place::handler, 0x8e), 0);
	guest.poke(place::tss + 4, bit(60), 8);
	fails({14, Kind::exception, 0}, Exception::coded(Vector::stack_fault, external));
}

TEST_F(Events, InRealMode)
{
	become(Mode::real, 0);
	guest.poke(0x21 * 4, 0x0100'1234, 4);
	guest.rflags |= IF | TF;
	completes({0xcd, 0x21});
	EXPECT_EQ(segment(SegmentName::cs).base, 0x1000u);
	EXPECT_EQ(guest.rip, 0x1234u);
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed);
	EXPECT_EQ(stacked(0, 2), place::code + 2);
	EXPECT_EQ(stacked(2, 2), MadeUpGuest::flag_fixed | IF | TF);
	completes({0xcf});
	EXPECT_EQ(guest.rip, place::code + 2);
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | IF | TF);
	guest.idtr.limit = 0x21 * 4;
	guest.rflags = MadeUpGuest::flag_fixed;
	raises({0xcd, 0x21}, {Vector::general_protection, false, 0, 0});
}

TEST_F(Events, From8086ModeAndBack)
{
	become(Mode::virtual8086, 3);
	guest.segments[static_cast<u8>(SegmentName::ds)].selector = 0x1111;
	set_idt_entry(0x40, gate(code0, place::handler, 0x8e));
	succeeds({0x40, Kind::external, {}});
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack - 36);
	EXPECT_EQ(stacked(2, 4), MadeUpGuest::flag_fixed | X86_EFLAGS_VM);
	EXPECT_EQ(stacked(6, 4), 0x1111u); // behind ES
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_VM);
	EXPECT_TRUE(segment(SegmentName::ds).rights.unusable());
	guest.current_mode = Mode::protected32;
	completes({0xcf});
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_VM);
	EXPECT_EQ(segment(SegmentName::ds), (Segment{0x1111, 0xffff, 0x11110, {0xf3}}));
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
	// A handler of another level than 0 is none.
	become(Mode::virtual8086, 3);
	set_idt_entry(0x40, gate(conforming, place::handler, 0x8e));
	fails({0x40, Kind::external, {}}, Exception::gp(conforming | external));
}

TEST_F(Events, InterruptsOf8086ModeByRedirection)
{
	become(Mode::virtual8086, 3);
	raises({0xcd, 0x21}, Exception::gp()); // IOPL 0
	guest.cr[4] |= X86_CR4_VME;
	guest.poke(place::tss + 102, 0x80, 2);
	guest.poke(place::tss + 0x80 - 32 + 0x21 / 8, 0, 1); // redirected
	guest.poke(0x21 * 4, 0x0100'1234, 4);
	guest.rflags |= X86_EFLAGS_VIF | X86_EFLAGS_AC;
	completes({0xcd, 0x21});
	EXPECT_EQ(guest.rip, 0x1234u);
	EXPECT_EQ(stacked(2, 2), MadeUpGuest::flag_fixed | X86_EFLAGS_IOPL | IF);
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_VIF);
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_AC);
	guest.poke(place::tss + 0x80 - 32 + 0x21 / 8, 0xff, 1);
	guest.rip = place::code;
	guest.segments[static_cast<u8>(SegmentName::cs)].base = 0;
	raises({0xcd, 0x21}, Exception::gp());
}

TEST_F(Events, IretChecksWhereItGoes)
{
	guest.poke(place::stack, place::handler, 4);
	guest.poke(place::stack + 4, data0, 4);
	guest.poke(place::stack + 8, MadeUpGuest::flag_fixed, 4);
	raises({0xcf}, Exception::gp(data0));
	guest.poke(place::stack + 4, code0, 4);
	guest.segments[static_cast<u8>(SegmentName::ss)].limit = place::stack + 8;
	raises({0xcf}, Exception::coded(Vector::stack_fault, 0));
	become(Mode::long64, 0);
	guest.rflags |= NT;
	raises({0x48, 0xcf}, Exception::gp());
}

// --- tasks ---------------------------------------------------------------------------------------

TEST_F(Tasks, Jump)
{
	guest.rflags |= IF;
	completes(jump_to_task);
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x2000u);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack);
	EXPECT_EQ(segment(SegmentName::fs).selector, data3);
	EXPECT_TRUE(segment(SegmentName::gs).rights.unusable());
	EXPECT_EQ(segment(SegmentName::tr).selector, tss2);
	EXPECT_TRUE(guest.cr[0] & X86_CR0_TS);
	EXPECT_EQ(type_of(tss2), 11u);
	EXPECT_EQ(type_of(tss), 9u); // no longer busy
	// The old task is as it was behind the jump.
	EXPECT_EQ(guest.peek(place::tss + 32, 4), place::code + 7);
	EXPECT_EQ(guest.peek(place::tss + 36, 4), MadeUpGuest::flag_fixed | IF);
	EXPECT_EQ(guest.peek(place::tss + 40, 4), 0x1000u);
	EXPECT_EQ(guest.peek(place::tss + 76, 4), code0);
}

TEST_F(Tasks, CallAndReturn)
{
	completes(call_task);
	EXPECT_TRUE(guest.rflags & NT);
	EXPECT_EQ(guest.peek(place::tss2, 2), tss); // the back link
	EXPECT_EQ(type_of(tss), 11u);
	completes({0xcf});
	EXPECT_EQ(guest.rip, place::code + 7);
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x1000u);
	EXPECT_EQ(type_of(tss2), 9u);
	EXPECT_FALSE(guest.rflags & NT);
}

TEST_F(Tasks, ByAGateWithAnErrorCode)
{
	guest.poke(place::idt + 8 * 8, gate(tss2, 0, 0x85), 8);
	ASSERT_TRUE(guest.deliver_event({8, Kind::exception, 0x77}).has_value());
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(stacked(0, 4), 0x77u);
	EXPECT_TRUE(guest.rflags & NT);
}

TEST_F(Tasks, FaultsOfTheOldTaskChangeNothing)
{
	set_gdt_entry(tss2, descriptor(place::tss2, 0x67, 0x8b, 0));
	raises(jump_to_task, Exception::gp(tss2)); // busy
	set_gdt_entry(tss2, descriptor(place::tss2, 0x67, 0x09, 0));
	raises(jump_to_task, Exception::coded(Vector::segment_not_present, tss2));
	set_gdt_entry(tss2, descriptor(place::tss2, 0x66, 0x89, 0));
	raises(jump_to_task, Exception::coded(Vector::invalid_tss, tss2));
	become(Mode::protected32, 3);
	raises(jump_to_task, Exception::gp(tss2)); // DPL 0
	become(Mode::long64, 0);
	guest.poke(place::data, u64{tss2} << 32, 8);
	guest.gpr[Gpr::rbx] = place::data;
	raises({0xff, 0x2b}, Exception::gp(tss2));
}

TEST_F(Tasks, FaultsOfTheNewTaskAreItsOwn)
{
	guest.poke(place::tss2 + 80, data3, 4); // SS of another level
	const Outcome<> outcome = guest.run(jump_to_task);
	ASSERT_FALSE(outcome.has_value());
	ASSERT_EQ(guest.raised.size(), 1u);
	EXPECT_EQ(guest.raised[0], Exception::coded(Vector::invalid_tss, data3 & ~3));
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(segment(SegmentName::tr).selector, tss2);
}

TEST_F(Tasks, Of16Bits)
{
	set_gdt_entry(tss2, descriptor(place::tss2, 0x2b, 0x81, 0));
	const u16 image[] = {0, 0, 0, 0, 0, 0, 0, 0x5000, 2, 0x11, 0x12, 0x13, 0x14, 0x7000, 0x16,
		0x17, 0x18, data0, code0, data0, data0, 0};
	for (unsigned i = 0; i < std::size(image); ++i)
		guest.poke(place::tss2 + 2 * i, image[i], 2);
	completes(jump_to_task);
	EXPECT_EQ(guest.rip, 0x5000u);
	EXPECT_EQ(guest.gpr[Gpr::rax] & 0xffff, 0x11u);
	EXPECT_EQ(guest.gpr[Gpr::rsp] & 0xffff, 0x7000u);
}

TEST_F(Tasks, TheTrapBitIsADebugException)
{
	guest.poke(place::tss2 + 100, 1, 2);
	const Outcome<> outcome = guest.run(jump_to_task);
	ASSERT_FALSE(outcome.has_value());
	ASSERT_EQ(guest.raised.size(), 1u);
	EXPECT_EQ(guest.raised[0], Exception::plain(Vector::debug));
	EXPECT_TRUE(guest.dr[6] & bit(15));
}

} // namespace kvmpp::x86::emulator::test
