// SPDX-License-Identifier: GPL-2.0-only
// One instruction under way: working copies of the registers, which become the guest's when
// everything went well, and the memory and exceptions that instructions have in common.
#pragma once

#include <span>
#include "x86/emulator/emulator.h"
#include "x86/emulator/flags.h"
#include "x86/emulator/instruction.h"

namespace kvmpp::x86::emulator
{

// Whether the limit of a segment outside 64-bit mode lets `size` bytes at `offset` through.
bool segment_contains(const Segment &segment, u64 offset, unsigned size);

struct Execution {
	Execution(Guest &guest_, Registers &registers_, Mode mode_, Instruction &instruction_)
		: guest{guest_}, registers{registers_},
		  instruction{instruction_}, mode{mode_}, gpr{registers_.gpr}, rip{registers_.rip},
		  rflags{registers_.rflags}, dst{instruction_.operands[0]},
		  src{instruction_.operands[1]}, src2{instruction_.operands[2]}
	{}

	Guest &guest;
	Registers &registers;
	Instruction &instruction;
	const Mode mode;
	Gprs gpr;
	u64 rip; // of the next instruction
	u64 rflags;
	Operand &dst, &src, &src2;
	u64 address = 0;     // offset of the memory operand in its segment
	bool retired = true; // false: the same instruction is to be executed again
	bool external =
		false; // the EXT bit of error codes: an event from outside is being delivered
	bool keep_rf = false; // RFLAGS.RF is what the instruction loaded

	// --- mode and privilege
	// --------------------------------------------------------------------
	bool long_mode() const { return mode == Mode::long64; }
	bool protected_mode() const { return mode >= Mode::protected16; }
	bool long_mode_active() const { return guest.efer() & efer::lma; }
	unsigned cpl() const { return guest.cpl(); }
	unsigned iopl() const { return static_cast<unsigned>((rflags & flag::iopl) >> 12); }
	bool canonical(u64 linear) const;
	bool has(Feature feature) const;

	// --- exceptions: each raises and says so
	// ----------------------------------------------------
	std::unexpected<Stop> raise(const Exception &exception);
	std::unexpected<Stop> undefined() { return raise(Exception::ud()); }
	std::unexpected<Stop> gp(u16 selector = 0)
	{
		return fault(Vector::general_protection, selector);
	}
	// With an error code that names a selector.
	std::unexpected<Stop> fault(Vector vector, u16 selector);
	// #SS for the stack segment, #GP for others.
	std::unexpected<Stop> address_fault(SegmentName segment);

	// --- registers
	// ------------------------------------------------------------------------------
	u64 get(Gpr name, unsigned size) const { return gpr[name] & value_mask(size); }
	// As the processor does: 4 bytes clear the upper half, less leave the rest alone.
	void set(Gpr name, u64 value, unsigned size);
	void add(Gpr name, s64 step, unsigned size)
	{
		set(name, gpr[name] + static_cast<u64>(step), size);
	}
	void set_flags(u64 flags, u64 mask) { rflags = (rflags & ~mask) | (flags & mask); }
	// Takes over all status flags of a result.
	u64 take(const Computed &computed)
	{
		set_flags(computed.flags, flag::status);
		return computed.value;
	}
	// Makes the working copies the guest's: at the end, and between iterations of a REP.
	void commit();

	// --- operands
	// -------------------------------------------------------------------------------
	u64 effective_address() const;
	Outcome<> load(Operand &operand);
	Outcome<> store(const Operand &operand, u64 value);
	// Replaces what load() found in the first operand; atomically with LOCK.
	Outcome<> update(u64 old, u64 value);

	// --- memory by segment and offset
	// ------------------------------------------------------------- Checks segment, limit,
	// canonicality and alignment. `alignment` 0: any will do.
	Outcome<Gva> linear(
		SegmentName segment, u64 offset, unsigned size, Access access, unsigned alignment);
	Outcome<> read(SegmentName segment, u64 offset, void *data, unsigned size, Access access);
	Outcome<> write(SegmentName segment, u64 offset, const void *data, unsigned size);
	Outcome<u64> read_value(
		SegmentName segment, u64 offset, unsigned size, Access access = Access::read);
	Outcome<> write_value(SegmentName segment, u64 offset, u64 value, unsigned size);
	// The memory operand, `size` bytes at `displacement` from its start.
	Outcome<> read_operand(void *data, unsigned size, unsigned displacement = 0);
	Outcome<> write_operand(const void *data, unsigned size, unsigned displacement = 0);

	// --- memory by linear address, splitting at 4 GiB where addresses wrap
	// --------------------------
	Outcome<> read_linear(Gva from, void *data, unsigned size, Access access);
	Outcome<> write_linear(Gva to, const void *data, unsigned size, Access access);
	// By the processor itself, from descriptor tables and task state segments.
	Outcome<u64> read_system(u64 base, u64 offset, unsigned size);
	Outcome<> write_system(u64 base, u64 offset, u64 value, unsigned size);

	// --- stack
	// ------------------------------------------------------------------------------------
	unsigned stack_size() const; // width of the stack pointer
	Outcome<> push(u64 value, unsigned size);
	// Several values of `size` bytes, the first one highest in memory.
	Outcome<> push_all(std::span<const u64> values, unsigned size);
	Outcome<u64> pop(unsigned size);
	// A value in the stack without popping it, `displacement` bytes above its top.
	Outcome<u64> peek(u64 displacement, unsigned size);

	// --- control flow
	// -------------------------------------------------------------------------------
	Outcome<> jump(u64 target);
};

} // namespace kvmpp::x86::emulator
