// SPDX-License-Identifier: GPL-2.0-only
// Loads of segment registers, LDTR and TR with every check, and questions about selectors.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

using namespace selector;

class Segments : public Emulator {
protected:
	Segments() { become(Mode::protected32, 0); }
	void select(u16 value)
	{
		guest.gpr[Gpr::rax] = value;
		guest.rip = place::code;
	}
};

// MOV segment, AX.
constexpr std::initializer_list<u8> to_ds{0x8e, 0xd8}, to_es{0x8e, 0xc0}, to_ss{0x8e, 0xd0};

constexpr Exception np(u16 selector)
{
	return Exception::coded(Vector::segment_not_present, selector);
}

} // namespace

TEST_F(Segments, LoadsAndMarksAccessed)
{
	set_gdt_entry(spare, descriptor(0x12345678, 0x12345, 0x92, 0x4));
	select(spare);
	completes(to_ds);
	EXPECT_EQ(segment(SegmentName::ds), (Segment{spare, 0x12345, 0x12345678, {0x4093}}));
	EXPECT_EQ(guest.peek(place::gdt + spare, 8), descriptor(0x12345678, 0x12345, 0x93, 0x4));
}

TEST_F(Segments, FromTheLdt)
{
	guest.poke(place::ldt + 0x10, descriptor(0x5000, 0xfff, 0x93, 0), 8);
	select(0x14);
	completes(to_es);
	EXPECT_EQ(segment(SegmentName::es).base, 0x5000u);
	select(0x104 | 4);
	raises(to_es, Exception::gp(0x104)); // beyond its limit
	guest.segments[static_cast<u8>(SegmentName::ldtr)].rights.raw = AccessRights::unusable_bit;
	select(0x14);
	raises(to_es, Exception::gp(0x14));
}

TEST_F(Segments, NullSelectors)
{
	for (u16 value : {0, 3}) {
		select(value);
		completes(to_ds);
		EXPECT_TRUE(segment(SegmentName::ds).rights.unusable());
		EXPECT_EQ(segment(SegmentName::ds).selector, value);
		select(value);
		raises(to_ss, Exception::gp(0));
	}
	guest.rip = place::code;
	raises({0x8b, 0x03}, Exception::gp()); // a use of it
	become(Mode::long64, 0);
	select(0);
	completes(to_ss);
	become(Mode::long64, 3);
	select(3);
	raises(to_ss, Exception::gp(0));
}

TEST_F(Segments, WhatDataSegmentsMustBe)
{
	select(0x100);
	raises(to_ds, Exception::gp(0x100)); // beyond the GDT
	select(tss);
	raises(to_ds, Exception::gp(tss));
	select(execute_only);
	raises(to_ds, Exception::gp(execute_only));
	select(code0);
	completes(to_ds); // readable code
	select(absent);
	raises(to_ds, np(absent));
	become(Mode::protected32, 3);
	select(data0 | 3);
	raises(to_ds, Exception::gp(data0));
	select(conforming | 3);
	completes(to_ds); // at any level
	select(data3);
	completes(to_ds);
}

TEST_F(Segments, WhatStackSegmentsMustBe)
{
	select(code0);
	raises(to_ss, Exception::gp(code0));
	select(read_only);
	raises(to_ss, Exception::gp(read_only));
	select(data3);
	raises(to_ss, Exception::gp(data3 & ~3));
	select(data0 | 1);
	raises(to_ss, Exception::gp(data0));
	set_gdt_entry(spare, descriptor(0, 0xfffff, 0x13, 0xc));
	select(spare);
	raises(to_ss, Exception::coded(Vector::stack_fault, spare));
	select(data0);
	completes(to_ss);
	EXPECT_EQ(guest.blocked_by_mov_ss, true);
}

TEST_F(Segments, CodeIsNotLoadedByMove)
{
	// Whatever its operand is like.
	guest.gpr[Gpr::rbx] = place::end;
	raises({0x8e, 0x0b}, Exception::ud());
	raises({0x8e, 0xf0}, Exception::ud()); // there is no sixth
}

TEST_F(Segments, InRealMode)
{
	become(Mode::real, 0);
	guest.segments[static_cast<u8>(SegmentName::ds)].limit = 0xffff'ffff;
	select(0x1234);
	completes(to_ds);
	EXPECT_EQ(segment(SegmentName::ds).base, 0x12340u);
	EXPECT_EQ(segment(SegmentName::ds).limit, 0xffff'ffffu);
	become(Mode::virtual8086, 3);
	select(0x1234);
	completes(to_ds);
	EXPECT_EQ(segment(SegmentName::ds), (Segment{0x1234, 0xffff, 0x12340, {0xf3}}));
}

TEST_F(Segments, FarPointers)
{
	guest.poke(place::data, 0x0023'1234'5678, 6);
	guest.gpr[Gpr::rbx] = place::data;
	completes({0x0f, 0xb4, 0x03}); // LFS EAX, [EBX]
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x12345678u);
	EXPECT_EQ(segment(SegmentName::fs).selector, data3);
	guest.poke(place::data + 4, 0x100, 2);
	raises({0xc5, 0x03}, Exception::gp(0x100)); // LDS: the register stays
}

TEST_F(Segments, PopChecksBeforeItPops)
{
	guest.poke(place::stack, absent, 4);
	raises({0x1f}, np(absent)); // POP DS
	guest.poke(place::stack, data3, 4);
	completes({0x1f});
	EXPECT_EQ(guest.gpr[Gpr::rsp], place::stack + 4);
}

TEST_F(Segments, TaskRegister)
{
	select(tss2);
	completes({0x0f, 0x00, 0xd8}); // LTR AX
	EXPECT_EQ(segment(SegmentName::tr).base, place::tss2);
	EXPECT_EQ(segment(SegmentName::tr).rights.type(), 11u);
	select(tss2);
	raises({0x0f, 0x00, 0xd8}, Exception::gp(tss2)); // now it is busy
	select(0);
	raises({0x0f, 0x00, 0xd8}, Exception::gp(0));
	select(tss2 | 4);
	raises({0x0f, 0x00, 0xd8}, Exception::gp(tss2 | 4));
	set_gdt_entry(spare, descriptor(0, 0x67, 0x09, 0));
	select(spare);
	raises({0x0f, 0x00, 0xd8}, np(spare));
	become(Mode::long64, 0);
	set_gdt_entry(spare, descriptor(0x3000, 0x67, 0x89, 0), 0x1234);
	guest.poke(place::gdt + spare + 8, 0xffff'8000, 8);
	select(spare);
	completes({0x0f, 0x00, 0xd8});
	EXPECT_EQ(segment(SegmentName::tr).base, 0xffff'8000'0000'3000u);
	become(Mode::protected32, 3);
	raises({0x0f, 0x00, 0xd8}, Exception::gp());
}

TEST_F(Segments, LocalTable)
{
	select(ldt);
	completes({0x0f, 0x00, 0xd0}); // LLDT AX
	EXPECT_EQ(segment(SegmentName::ldtr).base, place::ldt);
	select(0);
	completes({0x0f, 0x00, 0xd0});
	EXPECT_TRUE(segment(SegmentName::ldtr).rights.unusable());
	select(data0);
	raises({0x0f, 0x00, 0xd0}, Exception::gp(data0));
	select(0xf8); // its upper half would lie beyond the GDT
	become(Mode::long64, 0);
	select(0xf8);
	raises({0x0f, 0x00, 0xd0}, Exception::gp(0xf8));
}

TEST_F(Segments, Questions)
{
	const auto zero_flag = [this] { return (guest.rflags & X86_EFLAGS_ZF) != 0; };
	select(data3);
	completes({0x0f, 0x02, 0xd8}); // LAR EBX, AX
	EXPECT_TRUE(zero_flag());
	EXPECT_EQ(guest.gpr[Gpr::rbx], 0xcff300u);
	completes({0x0f, 0x03, 0xd8}); // LSL
	EXPECT_EQ(guest.gpr[Gpr::rbx], 0xffff'ffffu);
	completes({0x0f, 0x00, 0xe0}); // VERR
	EXPECT_TRUE(zero_flag());
	select(read_only);
	completes({0x0f, 0x00, 0xe8}); // VERW
	EXPECT_FALSE(zero_flag());
	select(execute_only);
	completes({0x0f, 0x00, 0xe0});
	EXPECT_FALSE(zero_flag());
	select(call_gate); // LSL knows no limit of a gate
	set_gdt_entry(call_gate, gate(code0, 0, 0x8c));
	guest.gpr[Gpr::rbx] = 77;
	completes({0x0f, 0x03, 0xd8});
	EXPECT_FALSE(zero_flag());
	EXPECT_EQ(guest.gpr[Gpr::rbx], 77u);
	for (u16 nothing : {0x0, 0x100}) {
		select(nothing);
		completes({0x0f, 0x02, 0xd8});
		EXPECT_FALSE(zero_flag());
	}
	become(Mode::protected32, 3);
	select(data0 | 3);
	completes({0x0f, 0x02, 0xd8});
	EXPECT_FALSE(zero_flag());
	select(conforming | 3);
	completes({0x0f, 0x02, 0xd8});
	EXPECT_TRUE(zero_flag());
}

TEST_F(Segments, Arpl)
{
	guest.gpr[Gpr::rax] = 0x10;
	guest.gpr[Gpr::rbx] = 0x23;
	completes({0x63, 0xd8}); // ARPL AX, BX
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x13u);
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_ZF);
	completes({0x63, 0xd8});
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_ZF);
}

TEST_F(Segments, LimitsAndTypesOfData)
{
	Segment &ds = guest.segments[static_cast<u8>(SegmentName::ds)];
	ds.limit = 0x9003;
	guest.gpr[Gpr::rbx] = 0x9000;
	completes({0x8b, 0x03});
	guest.gpr[Gpr::rbx] = 0x9001;
	raises({0x8b, 0x03}, Exception::gp());
	ds = {data0, 0x8fff, 0, {0x4097}}; // expand-down: what is above
	completes({0x8b, 0x03});
	guest.gpr[Gpr::rbx] = 0x8fff;
	raises({0x8b, 0x03}, Exception::gp());
	ds = from_gdt(read_only);
	guest.gpr[Gpr::rbx] = 0x9000;
	raises({0x89, 0x03}, Exception::gp());
	completes({0x8b, 0x03});
	raises({0x2e, 0x89, 0x03}, Exception::gp()); // CS is never writable
	ds = from_gdt(execute_only);
	raises({0x8b, 0x03}, Exception::gp());
	become(Mode::real, 0);
	guest.gpr[Gpr::rbx] = 0xffff;
	raises({0x8b, 0x07}, {Vector::general_protection, false, 0, 0}); // a word at FFFF
}

} // namespace kvmpp::x86::emulator::test
