// SPDX-License-Identifier: GPL-2.0-only
// Transfers between segments and privilege levels: direct, through call gates, and back.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

using namespace selector;

class Far : public Emulator {
protected:
	Far() { become(Mode::protected32, 0); }
	void aim(u16 target, u64 offset)
	{
		guest.poke(place::data, offset, 4);
		guest.poke(place::data + 4, target, 2);
		guest.gpr[Gpr::rbx] = place::data;
		guest.rip = place::code;
	}
};

constexpr std::initializer_list<u8> jump{0xff, 0x2b}, call{0xff, 0x1b},
	return_far{0xcb}; // by [EBX]

} // namespace

TEST_F(Far, Directly)
{
	set_gdt_entry(spare, descriptor(0x100, 0x6000, 0x9a, 0x4));
	aim(spare, place::handler);
	completes(jump);
	EXPECT_EQ(segment(SegmentName::cs), (Segment{spare, 0x6000, 0x100, {0x409b}}));
	EXPECT_EQ(guest.rip, place::handler);
	become(Mode::protected32, 0);
	completes({0x9a, 0x00, 0x50, 0x00, 0x00, code0, 0x00}); // CALL 8:5000
	EXPECT_EQ(stacked(0, 4), place::code + 7);
	EXPECT_EQ(stacked(1, 4), code0);
	completes(return_far);
	EXPECT_EQ(guest.rip, place::code + 7);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack);
}

TEST_F(Far, WhatCodeSegmentsMustBe)
{
	for (const auto &how : {jump, call}) {
		aim(0, 0);
		raises(how, Exception::gp(0));
		aim(data0, 0);
		raises(how, Exception::gp(data0));
		aim(code3, 0);
		raises(how, Exception::gp(code3 & ~3));
		aim(0x100, 0);
		raises(how, Exception::gp(0x100));
		set_gdt_entry(spare, descriptor(0, 0xfff, 0x1b, 0x4));
		aim(spare, 0);
		raises(how, Exception::coded(Vector::segment_not_present, spare));
		set_gdt_entry(spare, descriptor(0, 0xfff, 0x9b, 0x4));
		aim(spare, 0x1000);
		raises(how, Exception::gp(0));
	}
}

TEST_F(Far, ConformingCodeKeepsTheLevel)
{
	become(Mode::protected32, 3);
	aim(conforming, place::handler);
	completes(jump);
	EXPECT_EQ(segment(SegmentName::cs).selector, conforming | 3);
	EXPECT_EQ(guest.current_cpl, 3u);
}

TEST_F(Far, In8086Modes)
{
	become(Mode::real, 0);
	completes({0x9a, 0x34, 0x12, 0x00, 0x01}); // CALL 0100:1234
	EXPECT_EQ(segment(SegmentName::cs).base, 0x1000u);
	EXPECT_EQ(guest.rip, 0x1234u);
	EXPECT_EQ(stacked(0, 2), place::code + 5);
	completes(return_far);
	EXPECT_EQ(guest.rip, place::code + 5);
	EXPECT_EQ(segment(SegmentName::cs).selector, 0);
	raises({0x66, 0xea, 0x00, 0x00, 0x01, 0x00, 0x00, 0x01},
		{Vector::general_protection, false, 0, 0}); // JMP 0100:10000
}

TEST_F(Far, ThroughAGateInward)
{
	become(Mode::protected32, 3);
	set_gdt_entry(call_gate, gate(code0, place::handler, 0xec, 2));
	guest.poke(place::stack, 0x22222222'11111111, 8);
	aim(call_gate | 3, 0xdead);
	completes(call);
	EXPECT_EQ(guest.current_cpl, 0u);
	EXPECT_EQ(segment(SegmentName::cs).selector, code0);
	EXPECT_EQ(segment(SegmentName::ss).selector, data0);
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack - 24);
	const u64 expected[] = {
		place::code + 2, code3, 0x11111111, 0x22222222, place::stack, data3};
	for (unsigned i = 0; i < 6; ++i)
		EXPECT_EQ(stacked(i, 4), expected[i]) << i;
	// And back, releasing the parameters of both stacks.
	guest.segments[static_cast<u8>(SegmentName::ds)] = from_gdt(data0);
	completes({0xca, 0x08, 0x00}); // RETF 8
	EXPECT_EQ(guest.current_cpl, 3u);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack + 8);
	EXPECT_EQ(segment(SegmentName::ss).selector, data3);
	EXPECT_TRUE(segment(SegmentName::ds).rights.unusable()); // too privileged to be kept
	EXPECT_FALSE(segment(SegmentName::es).rights.unusable());
}

TEST_F(Far, WhatGatesMustBe)
{
	become(Mode::protected32, 3);
	aim(call_gate | 3, 0);
	set_gdt_entry(call_gate, gate(code0, 0, 0x8c));
	raises(call, Exception::gp(call_gate)); // DPL 0
	set_gdt_entry(call_gate, gate(code0, 0, 0x6c));
	raises(call, Exception::coded(Vector::segment_not_present, call_gate));
	set_gdt_entry(call_gate, gate(0, 0, 0xec));
	raises(call, Exception::gp(0));
	set_gdt_entry(call_gate, gate(data0, 0, 0xec));
	raises(call, Exception::gp(data0));
	set_gdt_entry(call_gate, gate(code0, 0, 0xec));
	raises(jump, Exception::gp(code0)); // a jump cannot change the level
	guest.segments[static_cast<u8>(SegmentName::tr)].limit = 4;
	raises(call, Exception::coded(Vector::invalid_tss, tss));
	guest.segments[static_cast<u8>(SegmentName::tr)].limit = 0x67;
	guest.poke(place::tss + 8, code0, 2);
	raises(call, Exception::coded(Vector::invalid_tss, code0));
	guest.poke(place::tss + 8, data0, 2);
	guest.poke(place::tss + 4, place::end + 8, 4); // where nothing is: a supervisor's write
	raises(call, Exception::page_fault(place::end, page_fault_code::write));
}

TEST_F(Far, GatesOf64BitMode)
{
	become(Mode::long64, 3);
	set_gdt_entry(call_gate, gate(code64, place::handler, 0xec));
	guest.poke(place::gdt + call_gate + 8, 0, 8);
	aim(call_gate | 3, 0);
	completes(call);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack - 32);
	EXPECT_EQ(stacked(0, 8), place::code + 2);
	EXPECT_EQ(stacked(2, 8), place::stack);
	EXPECT_EQ(segment(SegmentName::ss).selector, 0);
	EXPECT_TRUE(segment(SegmentName::ss).rights.unusable());
	become(Mode::long64, 3);
	aim(call_gate | 3, 0);
	guest.poke(
		place::gdt + call_gate + 8, u64{0x0c} << 40, 8); // the upper half's type is not 0
	raises(call, Exception::gp(call_gate));
	guest.poke(place::gdt + call_gate + 8, 0, 8);
	set_gdt_entry(call_gate, gate(code0, place::handler, 0xec)); // not 64-bit code
	raises(call, Exception::gp(code0));
	raises({0xff, 0x1b}, [this] {
		guest.poke(place::data + 4, tss, 2); // there are no tasks
		return Exception::gp(tss);
	}());
}

TEST_F(Far, ReturnsMustNotGoInward)
{
	become(Mode::protected32, 3);
	guest.poke(place::stack, place::handler, 4);
	guest.poke(place::stack + 4, code0, 4);
	raises(return_far, Exception::gp(code0));
	guest.poke(place::stack + 4, 0, 4);
	raises(return_far, Exception::gp(0));
	guest.poke(place::stack + 4, data3, 4);
	raises(return_far, Exception::gp(data3 & ~3));
	become(Mode::protected32, 0);
	guest.poke(place::stack, place::handler, 4);
	guest.poke(place::stack + 4, code3, 4);
	guest.poke(place::stack + 12, data0, 4); // SS of another level
	raises(return_far, Exception::gp(data0));
}

// --- SYSCALL and kin -----------------------------------------------------------------------------

TEST_F(Far, SystemCalls)
{
	constexpr u32 star = 0xc0000081, lstar = 0xc0000082, mask = 0xc0000084;
	become(Mode::long64, 3);
	guest.msrs = {{star, u64{0x23} << 48 | u64{0x10} << 32}, {lstar, place::handler},
		{mask, X86_EFLAGS_IF}};
	guest.rflags |= X86_EFLAGS_IF | X86_EFLAGS_CF;
	completes({0x0f, 0x05});
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(guest.gpr[Gpr::rcx], place::code + 2);
	EXPECT_EQ(guest.gpr[Gpr::r11], MadeUpGuest::flag_fixed | X86_EFLAGS_IF | X86_EFLAGS_CF);
	EXPECT_EQ(guest.rflags, MadeUpGuest::flag_fixed | X86_EFLAGS_CF);
	EXPECT_EQ(segment(SegmentName::cs), (Segment{0x10, 0xffff'ffff, 0, {0xa09b}}));
	EXPECT_EQ(segment(SegmentName::ss), (Segment{0x18, 0xffff'ffff, 0, {0xc093}}));
	completes({0x48, 0x0f, 0x07}); // SYSRET to 64-bit code
	EXPECT_EQ(guest.rip, place::code + 2);
	EXPECT_EQ(segment(SegmentName::cs).selector, 0x33);
	EXPECT_EQ(segment(SegmentName::ss).selector, 0x2b);
	EXPECT_EQ(guest.current_cpl, 3u);
	raises({0x0f, 0x07}, Exception::gp());
	guest.efer_value &= ~efer::sce;
	raises({0x0f, 0x05}, Exception::ud());
	become(Mode::long64, 0);
	guest.gpr[Gpr::rcx] = bit(47);
	raises({0x48, 0x0f, 0x07}, Exception::gp());
}

TEST_F(Far, FastSystemCalls)
{
	guest.msrs = {{0x174, 0x08}, {0x175, place::inner_stack}, {0x176, place::handler}};
	become(Mode::protected32, 3);
	guest.rflags |= X86_EFLAGS_IF;
	completes({0x0f, 0x34}); // SYSENTER
	EXPECT_EQ(guest.rip, place::handler);
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::inner_stack);
	EXPECT_EQ(segment(SegmentName::cs).selector, 0x08);
	EXPECT_EQ(segment(SegmentName::ss).selector, 0x10);
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_IF);
	guest.gpr[Gpr::rcx] = place::stack;
	guest.gpr[Gpr::rdx] = place::code;
	completes({0x0f, 0x35}); // SYSEXIT
	EXPECT_EQ(guest.rip, place::code);
	EXPECT_EQ(segment(SegmentName::cs).selector, 0x1b);
	EXPECT_EQ(segment(SegmentName::ss).selector, 0x23);
	EXPECT_EQ(guest.current_cpl, 3u);
	raises({0x0f, 0x35}, Exception::gp());
	guest.msrs[0x174] = 3;
	raises({0x0f, 0x34}, Exception::gp());
	become(Mode::real, 0);
	raises({0x0f, 0x34}, {Vector::general_protection, false, 0, 0});
}

} // namespace kvmpp::x86::emulator::test
