// SPDX-License-Identifier: GPL-2.0-only
// Far jumps and calls: directly, through call gates, to tasks. SDM vol. 2, CALL and JMP; vol. 3,
// 5.8.
#include <algorithm>
#include "x86/emulator/far.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

bool valid_code(Execution &x, const Descriptor &descriptor)
{
	const AccessRights rights = descriptor.rights();
	return descriptor.code() && !(rights.long_mode() && rights.big() && x.long_mode_active());
}

Outcome<> check_offset(Execution &x, const Descriptor &code, u64 offset)
{
	const bool code64 = code.rights().long_mode() && x.long_mode_active();
	if (code64 ? !x.canonical(offset) : offset > code.limit())
		return x.gp();
	return {};
}

void enter_code(Execution &x, const Descriptor &code, u16 selector, unsigned cpl, u64 offset)
{
	x.guest.set_segment(
		SegmentName::cs, code.segment(static_cast<u16>((selector & ~3u) | cpl)));
	x.rip = offset;
}

namespace
{

enum class Kind : bool { jump, call };

// Real-address and virtual-8086 mode.
Outcome<> transfer_8086(Execution &x, FarPointer target, Kind kind)
{
	Segment cs = x.guest.segment(SegmentName::cs);
	if (target.offset > cs.limit)
		return x.gp();
	if (kind == Kind::call) {
		const u64 values[] = {cs.selector, x.rip};
		TRY(x.push_all(values, x.instruction.operand_size));
	}
	cs.selector = target.selector;
	cs.base = u64{target.selector} << 4;
	x.guest.set_segment(SegmentName::cs, cs);
	x.rip = target.offset;
	return {};
}

Outcome<> transfer_direct(Execution &x, FarPointer target, Descriptor code, Kind kind)
{
	const unsigned cpl = x.cpl();
	const bool allowed = code.rights().conforming()
				     ? code.dpl() <= cpl
				     : rpl(target.selector) <= cpl && code.dpl() == cpl;
	if (!valid_code(x, code) || !allowed)
		return x.gp(target.selector);
	if (!code.present())
		return x.fault(Vector::segment_not_present, target.selector);
	TRY(check_offset(x, code, target.offset));
	TRY(mark_descriptor(x, code, Descriptor::accessed_bit));
	if (kind == Kind::call) {
		const u64 values[] = {x.guest.segment(SegmentName::cs).selector, x.rip};
		TRY(x.push_all(values, x.instruction.operand_size));
	}
	enter_code(x, code, target.selector, cpl, target.offset);
	return {};
}

// To a more privileged level: on its stack, with the caller's parameters.
Outcome<> call_inner(
	Execution &x, const Descriptor &gate, const Descriptor &code, u64 offset, unsigned size)
{
	constexpr unsigned most_parameters = 31;
	const unsigned level = code.dpl();
	Stack stack = TRY(inner_stack(x, level, 0));

	std::array<u64, most_parameters + 4> values;
	unsigned count = 0;
	values[count++] = x.guest.segment(SegmentName::ss).selector;
	values[count++] = x.gpr[Gpr::rsp];
	for (unsigned n = size == 8 ? 0 : gate.gate_parameters(); n-- > 0;)
		values[count++] = TRY(x.peek(u64{n} * size, size));
	values[count++] = x.guest.segment(SegmentName::cs).selector;
	values[count++] = x.rip;
	TRY(stack.push(x, std::span{values}.first(count), size));
	stack.make_current(x);
	enter_code(x, code, gate.gate_selector(), level, offset);
	return {};
}

Outcome<> transfer_gate(Execution &x, u16 gate_selector, const Descriptor &gate, Kind kind)
{
	const unsigned cpl = x.cpl();
	const u16 selector = gate.gate_selector();
	const bool wide = gate.is(SystemType::call_gate32);
	if (gate.dpl() < std::max(cpl, rpl(gate_selector)))
		return x.gp(gate_selector);
	if (!gate.present())
		return x.fault(Vector::segment_not_present, gate_selector);
	if (is_null(selector))
		return x.gp();

	Descriptor code = TRY(read_descriptor(x, selector));
	const bool inner = kind == Kind::call && !code.rights().conforming() && code.dpl() < cpl;
	const bool allowed = code.rights().conforming() || kind == Kind::call ? code.dpl() <= cpl
									      : code.dpl() == cpl;
	if (!valid_code(x, code) || !allowed ||
		(x.long_mode_active() && !code.rights().long_mode()))
		return x.gp(selector);
	if (!code.present())
		return x.fault(Vector::segment_not_present, selector);

	const unsigned size = x.long_mode_active() ? 8 : wide ? 4 : 2;
	const u64 offset = wide ? gate.gate_offset() : gate.gate_offset16();
	TRY(check_offset(x, code, offset));
	TRY(mark_descriptor(x, code, Descriptor::accessed_bit));
	if (inner)
		return call_inner(x, gate, code, offset, size);
	if (kind == Kind::call) {
		Stack stack = current_stack(x);
		const u64 values[] = {x.guest.segment(SegmentName::cs).selector, x.rip};
		TRY(stack.push(x, values, size));
		stack.make_current(x);
	}
	enter_code(x, code, selector, cpl, offset);
	return {};
}

Outcome<> transfer_task(Execution &x, u16 selector, const Descriptor &descriptor, Kind kind)
{
	const TaskSwitch reason = kind == Kind::call ? TaskSwitch::call : TaskSwitch::jump;
	if (x.long_mode_active() || descriptor.dpl() < std::max(x.cpl(), rpl(selector)))
		return x.gp(selector);
	if (!descriptor.is(SystemType::task_gate))
		return switch_task(x, selector, reason, {});
	if (!descriptor.present())
		return x.fault(Vector::segment_not_present, selector);
	return switch_task(x, descriptor.gate_selector(), reason, {});
}

Outcome<> transfer(Execution &x, FarPointer target, Kind kind)
{
	if (!x.protected_mode())
		return transfer_8086(x, target, kind);
	if (is_null(target.selector))
		return x.gp();
	Descriptor descriptor = TRY(read_descriptor(x, target.selector));
	if (descriptor.rights().s())
		return transfer_direct(x, target, descriptor, kind);

	switch (static_cast<SystemType>(descriptor.rights().type())) {
	case SystemType::call_gate16:
		if (x.long_mode_active())
			return x.gp(target.selector);
		return transfer_gate(x, target.selector, descriptor, kind);
	case SystemType::call_gate32:
		descriptor =
			TRY(read_system_descriptor(x, target.selector, Vector::general_protection));
		// SDM vol. 3, 5.8.3.1: the upper half has a type of its own, 0.
		if (descriptor.high >> 40 & 0x1f)
			return x.gp(target.selector);
		return transfer_gate(x, target.selector, descriptor, kind);
	case SystemType::task_gate:
	case SystemType::tss16:
	case SystemType::tss32: return transfer_task(x, target.selector, descriptor, kind);
	default: return x.gp(target.selector);
	}
}

FarPointer immediate_pointer(const Execution &x)
{
	return {static_cast<u16>(x.src.value), x.dst.value};
}

} // namespace

namespace op
{

Outcome<> jmp_far(Execution &x)
{
	return transfer(x, immediate_pointer(x), Kind::jump);
}

Outcome<> call_far(Execution &x)
{
	return transfer(x, immediate_pointer(x), Kind::call);
}

Outcome<> jmp_far_memory(Execution &x)
{
	const FarPointer target = TRY(read_far_pointer(x));
	return transfer(x, target, Kind::jump);
}

Outcome<> call_far_memory(Execution &x)
{
	const FarPointer target = TRY(read_far_pointer(x));
	return transfer(x, target, Kind::call);
}

} // namespace op

} // namespace kvmpp::x86::emulator
