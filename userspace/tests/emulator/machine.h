// SPDX-License-Identifier: GPL-2.0-only
// A made-up guest with an operating system's tables: what the emulator's unit tests run in.
#pragma once

#include <gtest/gtest.h>

#include "tests/emulator/made_up_guest.h"

namespace kvmpp::x86::emulator::test
{

// The selectors of its GDT, with the RPL that they are used with.
namespace selector
{
inline constexpr u16 code0 = 0x08, data0 = 0x10, code3 = 0x1b, data3 = 0x23, code64 = 0x28,
		     code64_3 = 0x33, conforming = 0x38, absent = 0x40, tss = 0x48, ldt = 0x58,
		     call_gate = 0x68, tss2 = 0x78, task_gate = 0x88, code16 = 0x90, data16 = 0x98,
		     execute_only = 0xa0, read_only = 0xa8, spare = 0xb0;
}

// Where its memory is.
namespace place
{
inline constexpr u64 ivt = 0, gdt = 0x1000, idt = 0x1800, tss = 0x2000, ldt = 0x2800, tss2 = 0x2c00,
		     code = 0x4000, handler = 0x5000, inner_stack = 0x7000, stack = 0x8000,
		     data = 0x9000, end = 0x10000, device = 0x20000;
}

constexpr u64 descriptor(u32 base, u32 limit, u32 type, u32 flags)
{
	return (limit & 0xffff) | u64{base & 0xff'ffff} << 16 | u64{type} << 40 |
	       u64{limit >> 16 & 0xf} << 48 | u64{flags} << 52 | u64{base >> 24} << 56;
}

constexpr u64 gate(u16 target, u32 offset, u32 type, unsigned parameters = 0)
{
	return (offset & 0xffff) | u64{target} << 16 | u64{parameters} << 32 | u64{type} << 40 |
	       u64{offset >> 16} << 48;
}

class Emulator : public ::testing::Test {
protected:
	Emulator() { become(Mode::long64, 0); }

	// Flat segments, or those of 8086 with all bases 0; RIP at place::code, RSP at
	// place::stack.
	void become(Mode mode, unsigned cpl);
	// The segment that a descriptor of the GDT makes.
	Segment from_gdt(u16 selector) const;
	void set_gdt_entry(u16 selector, u64 low, u64 high = 0);
	// IA-32e gates have 16 bytes.
	void set_idt_entry(u8 vector, u64 low, u64 high = 0);
	u64 stacked(unsigned index, unsigned size) const
	{
		return guest.peek(guest.gpr[Gpr::rsp] + u64{index} * size, size);
	}
	Segment segment(SegmentName name) const { return guest.segments[static_cast<u8>(name)]; }

	// The instruction completes.
	void completes(std::initializer_list<u8> code);
	// It raises exactly this, and neither registers nor RIP change.
	void raises(std::initializer_list<u8> code, const Exception &exception);

	MadeUpGuest guest;
};

} // namespace kvmpp::x86::emulator::test
