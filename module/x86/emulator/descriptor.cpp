// SPDX-License-Identifier: GPL-2.0-only
#include "x86/emulator/descriptor.h"

namespace kvmpp::x86::emulator
{

namespace
{

constexpr u16 table_indicator = 4;

struct Table {
	u64 base;
	u32 limit;
	bool usable;
};

Table table_of(Execution &x, u16 selector)
{
	if (selector & table_indicator) {
		const Segment ldt = x.guest.segment(SegmentName::ldtr);
		return {ldt.base, ldt.limit, !ldt.rights.unusable()};
	}
	const DescriptorTable gdt = x.guest.gdt();
	return {gdt.base, gdt.limit, true};
}

bool reaches(const Table &table, u16 selector, unsigned size)
{
	return table.usable && (selector & ~7u) + size - 1 <= table.limit;
}

Outcome<Descriptor> read_at(Execution &x, const Table &table, u16 selector, unsigned size)
{
	const unsigned offset = selector & ~7u;
	Descriptor descriptor;
	descriptor.address = table.base + offset;
	descriptor.low = TRY(x.read_system(table.base, offset, 8));
	if (size == 16)
		descriptor.high = TRY(x.read_system(table.base, offset + 8, 8));
	return descriptor;
}

Outcome<> replace(Execution &x, Descriptor &descriptor, u64 desired)
{
	// One attempt may lose to another processor; then what is there now is changed.
	constexpr unsigned attempts = 16;
	const u64 set = desired & ~descriptor.low, cleared = descriptor.low & ~desired;
	const u64 where =
		x.long_mode_active() ? descriptor.address : descriptor.address & 0xffff'ffff;
	for (unsigned i = 0; i < attempts; ++i) {
		desired = (descriptor.low | set) & ~cleared;
		if (TRY(x.guest.compare_exchange(
			    Gva{where}, &descriptor.low, &desired, 8, Access::implicit_write)))
			break;
	}
	descriptor.low = desired;
	return {};
}

} // namespace

Outcome<Descriptor> read_descriptor(Execution &x, u16 selector, Vector vector)
{
	const Table table = table_of(x, selector);
	if (!reaches(table, selector, 8))
		return x.fault(vector, selector);
	return read_at(x, table, selector, 8);
}

Outcome<Descriptor> read_system_descriptor(Execution &x, u16 selector, Vector vector)
{
	const unsigned size = x.long_mode_active() ? 16 : 8;
	const Table table = table_of(x, selector);
	if (!reaches(table, selector, size))
		return x.fault(vector, selector);
	return read_at(x, table, selector, size);
}

Outcome<bool> has_descriptor(Execution &x, u16 selector)
{
	return !is_null(selector) && reaches(table_of(x, selector), selector, 8);
}

Outcome<> mark_descriptor(Execution &x, Descriptor &descriptor, u64 bits)
{
	if ((descriptor.low & bits) == bits)
		return {};
	return replace(x, descriptor, descriptor.low | bits);
}

Outcome<> clear_in_descriptor(Execution &x, Descriptor &descriptor, u64 bits)
{
	if (!(descriptor.low & bits))
		return {};
	return replace(x, descriptor, descriptor.low & ~bits);
}

// SDM vol. 2, MOV: the conditions for SS and for the others.
Outcome<Segment> data_segment(
	Execution &x, SegmentName name, u16 selector, unsigned cpl, Vector bad)
{
	const bool stack = name == SegmentName::ss;
	if (is_null(selector)) {
		if (!stack)
			return null_segment(selector);
		if (!x.long_mode() || cpl == 3 || rpl(selector) != cpl)
			return x.fault(bad, 0);
		return null_segment(selector, cpl);
	}
	Descriptor descriptor = TRY(read_descriptor(x, selector, bad));
	const AccessRights rights = descriptor.rights();
	const bool allowed =
		stack ? rights.s() && rights.writable() && rpl(selector) == cpl &&
				rights.dpl() == cpl
		      : rights.s() && rights.readable() &&
				(rights.conforming() ||
					(rpl(selector) <= rights.dpl() && cpl <= rights.dpl()));
	if (!allowed)
		return x.fault(bad, selector);
	if (!rights.present())
		return x.fault(stack ? Vector::stack_fault : Vector::segment_not_present, selector);
	TRY(mark_descriptor(x, descriptor, Descriptor::accessed_bit));
	return descriptor.segment(selector);
}

} // namespace kvmpp::x86::emulator
