// SPDX-License-Identifier: GPL-2.0-only
// RETF and IRET. SDM vol. 2, RET and IRET.
#include "x86/emulator/far.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

namespace
{

// What the stack says to return to.
struct Return {
	u64 offset = 0;
	u16 selector = 0;
	u64 stack_pointer = 0;
	u16 stack_selector = 0;
};

// Takes what is popped from the stack one after the other, as it would be after `skipped` bytes.
struct Frame {
	Execution &x;
	unsigned size;
	u64 at = 0;

	Outcome<u64> next()
	{
		const u64 value = TRY(x.peek(at, size));
		at += size;
		return value;
	}
};

Outcome<Descriptor> return_code(Execution &x, u16 selector)
{
	if (is_null(selector))
		return x.gp();
	Descriptor code = TRY(read_descriptor(x, selector));
	const unsigned level = rpl(selector);
	const bool allowed = code.rights().conforming() ? code.dpl() <= level : code.dpl() == level;
	if (!valid_code(x, code) || level < x.cpl() || !allowed)
		return x.gp(selector);
	if (!code.present())
		return x.fault(Vector::segment_not_present, selector);
	return code;
}

// SS for a return that loads it; a null selector is good for 64-bit code below level 3.
Outcome<Segment> return_stack(Execution &x, u16 selector, unsigned level, bool to_64bit)
{
	if (is_null(selector)) {
		if (!to_64bit || level == 3 || rpl(selector) != level)
			return x.gp();
		return null_segment(selector, level);
	}
	return data_segment(x, SegmentName::ss, selector, level);
}

// A less privileged level keeps no data segment that it could not have loaded.
void drop_privileged_segments(Execution &x, unsigned level)
{
	for (SegmentName name :
		{SegmentName::es, SegmentName::ds, SegmentName::fs, SegmentName::gs}) {
		const AccessRights rights = x.guest.segment(name).rights;
		if (!rights.unusable() && !rights.conforming() && rights.dpl() < level)
			x.guest.set_segment(name, null_segment(0));
	}
}

bool to_64bit(Execution &x, const Descriptor &code)
{
	return code.rights().long_mode() && x.long_mode_active();
}

// Everything is checked before anything changes. `same_stack`: RSP and SS stay, but for `released`
// bytes; otherwise both stacks release `parameters`.
Outcome<> return_to(
	Execution &x, const Return &where, bool same_stack, u64 released, u64 parameters)
{
	Descriptor code = TRY(return_code(x, where.selector));
	const unsigned level = rpl(where.selector);
	const bool outer = level > x.cpl();
	Segment stack{};
	if (!same_stack)
		stack = TRY(return_stack(x, where.stack_selector, level, to_64bit(x, code)));
	TRY(check_offset(x, code, where.offset));
	TRY(mark_descriptor(x, code, Descriptor::accessed_bit));

	if (same_stack) {
		x.add(Gpr::rsp, static_cast<s64>(released), x.stack_size());
	} else {
		const unsigned width = to_64bit(x, code) ? 8 : stack.rights.big() ? 4 : 2;
		x.set(Gpr::rsp, where.stack_pointer + parameters, width);
		x.guest.set_segment(SegmentName::ss, stack);
	}
	enter_code(x, code, where.selector, level, where.offset);
	if (outer)
		drop_privileged_segments(x, level);
	return {};
}

Outcome<> return_8086(Execution &x, const Return &where)
{
	Segment cs = x.guest.segment(SegmentName::cs);
	if (where.offset > cs.limit)
		return x.gp();
	cs.selector = where.selector;
	cs.base = u64{where.selector} << 4;
	x.guest.set_segment(SegmentName::cs, cs);
	x.rip = where.offset;
	return {};
}

constexpr u64 always_loaded = flag::status | flag::tf | flag::df | flag::nt;
constexpr u64 upper_flags = flag::rf | flag::ac | flag::id;

void load_flags(Execution &x, u64 image, u64 mask, unsigned size)
{
	x.set_flags(image, size == 2 ? mask & 0xffff : mask);
	x.keep_rf = size != 2;
}

// SDM vol. 3, 20.3.3.5: below IOPL 3 the virtual interrupt flag stands in for IF.
Outcome<> iret_8086(Execution &x, unsigned size)
{
	Frame frame{x, size};
	Return where;
	where.offset = TRY(frame.next());
	where.selector = static_cast<u16>(TRY(frame.next()));
	const u64 image = TRY(frame.next());
	const u64 loaded = always_loaded | upper_flags;

	if (x.mode == Mode::real) {
		TRY(return_8086(x, where));
		load_flags(x, image, loaded | flag::interrupt | flag::iopl, size);
	} else if (x.iopl() == 3) {
		TRY(return_8086(x, where));
		load_flags(x, image, loaded | flag::interrupt, size);
	} else {
		if (size != 2 || !(x.guest.control(4) & X86_CR4_VME) || image & flag::tf ||
			(image & flag::interrupt && x.rflags & flag::vip))
			return x.gp();
		TRY(return_8086(x, where));
		load_flags(x, image, loaded, size);
		x.set_flags(image & flag::interrupt ? flag::vif : 0, flag::vif);
	}
	x.add(Gpr::rsp, static_cast<s64>(frame.at), x.stack_size());
	return {};
}

// From level 0 of protected mode to virtual-8086 mode.
Outcome<> enter_8086(Execution &x, Frame &frame, const Return &where, u64 image)
{
	constexpr SegmentName order[] = {SegmentName::ss, SegmentName::es, SegmentName::ds,
		SegmentName::fs, SegmentName::gs};
	u16 selectors[std::size(order)];
	const u64 pointer = TRY(frame.next());
	for (u16 &selector : selectors)
		selector = static_cast<u16>(TRY(frame.next()));
	if (where.offset > 0xffff)
		return x.gp();
	for (usize i = 0; i < std::size(order); ++i)
		x.guest.set_segment(order[i], segment_8086(selectors[i]));
	x.guest.set_segment(SegmentName::cs, segment_8086(where.selector));
	x.set(Gpr::rsp, pointer, 4);
	x.rip = where.offset;
	load_flags(x, image,
		always_loaded | upper_flags | flag::interrupt | flag::iopl | flag::vm | flag::vif |
			flag::vip,
		4);
	return {};
}

Outcome<> iret_task(Execution &x)
{
	if (x.long_mode_active())
		return x.gp();
	const u16 selector = TRY(previous_task(x));
	return switch_task(x, selector, TaskSwitch::iret, {});
}

Outcome<> iret_protected(Execution &x, unsigned size)
{
	if (x.rflags & flag::nt)
		return iret_task(x);
	const unsigned cpl = x.cpl();
	Frame frame{x, size};
	Return where;
	where.offset = TRY(frame.next());
	where.selector = static_cast<u16>(TRY(frame.next()));
	const u64 image = TRY(frame.next());
	if (image & flag::vm && cpl == 0 && size == 4 && !x.long_mode_active())
		return enter_8086(x, frame, where, image);

	// 64-bit mode restores the stack at every level.
	const bool same_stack = !x.long_mode() && rpl(where.selector) == cpl;
	if (!same_stack && !is_null(where.selector)) {
		where.stack_pointer = TRY(frame.next());
		where.stack_selector = static_cast<u16>(TRY(frame.next()));
	}
	const unsigned iopl = x.iopl();
	TRY(return_to(x, where, same_stack, frame.at, 0));

	u64 loaded = always_loaded | upper_flags;
	if (cpl <= iopl)
		loaded |= flag::interrupt;
	if (cpl == 0)
		loaded |= flag::iopl | flag::vif | flag::vip;
	load_flags(x, image, loaded, size);
	return {};
}

} // namespace

namespace op
{

Outcome<> ret_far(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	const u64 parameters = x.dst.value;
	Frame frame{x, size};
	Return where;
	where.offset = TRY(frame.next());
	where.selector = static_cast<u16>(TRY(frame.next()));
	if (!x.protected_mode()) {
		TRY(return_8086(x, where));
		x.add(Gpr::rsp, static_cast<s64>(frame.at + parameters), x.stack_size());
		return {};
	}
	const bool outer = rpl(where.selector) > x.cpl();
	frame.at += parameters;
	if (outer) {
		where.stack_pointer = TRY(frame.next());
		where.stack_selector = static_cast<u16>(TRY(frame.next()));
	}
	return return_to(x, where, !outer, frame.at, parameters);
}

Outcome<> iret(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	if (x.protected_mode())
		TRY(iret_protected(x, size));
	else
		TRY(iret_8086(x, size));
	// SDM vol. 3, 6.7.1: NMIs are blocked until the next IRET.
	x.guest.unblock_nmi();
	return {};
}

} // namespace op

} // namespace kvmpp::x86::emulator
