// SPDX-License-Identifier: GPL-2.0-only
// Stacks of control transfers between privilege levels. SDM vol. 3, 5.8.5 and 6.14.
#include <algorithm>
#include "x86/emulator/far.h"

namespace kvmpp::x86::emulator
{

Stack current_stack(Execution &x)
{
	Stack stack;
	stack.segment = x.guest.segment(SegmentName::ss);
	stack.width = x.long_mode_active() ? 8 : x.stack_size();
	stack.pointer = x.get(Gpr::rsp, stack.width);
	return stack;
}

void Stack::make_current(Execution &x) const
{
	if (loads_segment)
		x.guest.set_segment(SegmentName::ss, segment);
	x.set(Gpr::rsp, pointer, width);
}

Outcome<> Stack::push(Execution &x, std::span<const u64> values, unsigned size)
{
	constexpr unsigned piece = 64;
	const unsigned bytes = static_cast<unsigned>(values.size()) * size;
	const u64 lowest = (pointer - bytes) & value_mask(width);
	Gva to{lowest};
	if (width == 8) {
		if (!x.canonical(lowest) || !x.canonical(lowest + bytes - 1))
			return x.fault(Vector::stack_fault, fault_selector);
	} else {
		if (!segment_contains(segment, lowest, bytes))
			return x.fault(Vector::stack_fault, fault_selector);
		to.value = (segment.base + lowest) & 0xffff'ffff;
	}
	TRY(x.guest.probe(to, bytes, access));

	u8 image[8 * 40];
	if (bytes > sizeof(image))
		return std::unexpected{Stop::unknown};
	for (usize i = 0; i < values.size(); ++i)
		__builtin_memcpy(&image[bytes - (i + 1) * size], &values[i], size);
	for (unsigned at = 0; at < bytes; at += piece) {
		const unsigned length = std::min(piece, bytes - at);
		TRY(width == 8 ? x.guest.write(to + at, image + at, length, access)
			       : x.write_linear(to + at, image + at, length, access));
	}
	pointer = lowest;
	return {};
}

Outcome<Stack> inner_stack(Execution &x, unsigned level, unsigned ist)
{
	const Segment tr = x.guest.segment(SegmentName::tr);
	const bool ia32e = x.long_mode_active();
	const bool wide = tr.rights.type() & 8;
	// SDM vol. 3, figures 8-2, 8-10 and 8-11.
	const unsigned offset = ia32e  ? (ist ? 0x1c + 8 * ist : 4 + 8 * level)
				: wide ? 4 + 8 * level
				       : 2 + 4 * level;
	const unsigned pointer_size = ia32e ? 8 : wide ? 4 : 2;
	const unsigned bytes = ia32e ? 8 : pointer_size + 2;
	if (offset + bytes - 1 > tr.limit)
		return x.fault(Vector::invalid_tss, tr.selector);

	Stack stack;
	stack.loads_segment = true;
	stack.access = Access::implicit_write;
	stack.pointer = TRY(x.read_system(tr.base, offset, pointer_size));
	if (ia32e) {
		stack.width = 8;
		stack.segment = null_segment(static_cast<u16>(level), level);
		return stack;
	}
	const u64 selector = TRY(x.read_system(tr.base, offset + pointer_size, 2));
	stack.segment = TRY(data_segment(
		x, SegmentName::ss, static_cast<u16>(selector), level, Vector::invalid_tss));
	stack.width = stack.segment.rights.big() ? 4 : 2;
	stack.fault_selector = stack.segment.selector;
	return stack;
}

} // namespace kvmpp::x86::emulator
