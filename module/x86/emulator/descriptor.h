// SPDX-License-Identifier: GPL-2.0-only
// Segment and gate descriptors in guest memory. SDM vol. 3, 3.4.5, 3.5 and 6.8.3.
#pragma once

#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator
{

// Types of system descriptors that are looked at here (SDM vol. 3, table 3-2).
enum class SystemType : u8 {
	tss16 = 1,
	ldt = 2,
	tss16_busy = 3,
	call_gate16 = 4,
	task_gate = 5,
	interrupt_gate16 = 6,
	trap_gate16 = 7,
	tss32 = 9,
	tss32_busy = 11,
	call_gate32 = 12,
	interrupt_gate32 = 14,
	trap_gate32 = 15,
};

struct Descriptor {
	static constexpr u64 accessed_bit = bit(40), busy_bit = bit(41);

	u64 low = 0;
	u64 high = 0;	 // of 16-byte descriptors
	u64 address = 0; // linear, of where it was read

	AccessRights rights() const { return {static_cast<u32>(low >> 40) & 0xf0ff}; }
	unsigned dpl() const { return rights().dpl(); }
	bool present() const { return rights().present(); }
	bool code() const { return rights().s() && rights().code(); }
	bool is(SystemType type) const
	{
		return !rights().s() && rights().type() == static_cast<u8>(type);
	}

	// A segment's.
	u64 base() const
	{
		return (low >> 16 & 0xff'ffff) | (low >> 32 & 0xff00'0000) | high << 32;
	}
	u32 limit() const
	{
		const u32 raw = static_cast<u32>((low & 0xffff) | (low >> 32 & 0xf0000));
		return rights().granular() ? raw << 12 | 0xfff : raw;
	}
	Segment segment(u16 selector) const { return {selector, limit(), base(), rights()}; }

	// A gate's.
	u16 gate_selector() const { return static_cast<u16>(low >> 16); }
	u64 gate_offset16() const { return low & 0xffff; }
	u64 gate_offset() const { return (low & 0xffff) | (low >> 32 & 0xffff'0000) | high << 32; }
	unsigned gate_parameters() const { return low >> 32 & 0x1f; }
	unsigned gate_stack() const { return low >> 32 & 7; } // IST
};

constexpr unsigned rpl(u16 selector)
{
	return selector & 3;
}

constexpr bool is_null(u16 selector)
{
	return selector < 4;
}

// The descriptor that a selector names. Beyond the table's limit, or in an LDT that is not there:
// `vector` with the selector. None of its contents are checked.
Outcome<Descriptor> read_descriptor(
	Execution &x, u16 selector, Vector vector = Vector::general_protection);
// The same for a system descriptor, which in IA-32e mode is 16 bytes long.
Outcome<Descriptor> read_system_descriptor(Execution &x, u16 selector, Vector vector);
// Whether there is one; faults of the access itself are raised.
Outcome<bool> has_descriptor(Execution &x, u16 selector);

// Sets bits of the descriptor's first half in memory unless they are set already.
Outcome<> mark_descriptor(Execution &x, Descriptor &descriptor, u64 bits);
Outcome<> clear_in_descriptor(Execution &x, Descriptor &descriptor, u64 bits);

// A register that holds no segment; the privilege level stays readable in SS.
constexpr Segment null_segment(u16 selector, unsigned dpl = 0)
{
	return {selector, 0, 0, {AccessRights::unusable_bit | dpl << 5}};
}

// As real-address and virtual-8086 mode know segments.
constexpr Segment segment_8086(u16 selector)
{
	return {selector, 0xffff, u64{selector} << 4, {0xf3}};
}

// Checks a data or stack segment for ES, SS, DS, FS or GS at privilege level `cpl`, and marks it
// accessed. `bad` is raised with the selector where the contents do not allow it.
Outcome<Segment> data_segment(Execution &x, SegmentName name, u16 selector, unsigned cpl,
	Vector bad = Vector::general_protection);

} // namespace kvmpp::x86::emulator
