// SPDX-License-Identifier: GPL-2.0-only
// Delivery of interrupts and exceptions, and the instructions that ask for it. SDM vol. 3, 6.12,
// 6.14 and 20.3.
#include "x86/emulator/far.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

namespace
{

bool is_instruction(Event::Kind kind)
{
	return kind >= Event::Kind::software_interrupt;
}

// An error code that names an entry of the IDT.
std::unexpected<Stop> idt_fault(Execution &x, Vector vector, u8 entry)
{
	constexpr u32 in_idt = 2;
	return x.raise(Exception::coded(vector, u32{entry} << 3 | in_idt | x.external));
}

// Faults push RFLAGS with RF set, so that their instruction is not stopped at a breakpoint again;
// INT n and its kin, which have begun, push it clear (SDM vol. 3, 18.3.1.1).
u64 flags_image(const Execution &x, const Event &event)
{
	if (is_instruction(event.kind))
		return x.rflags & ~flag::rf;
	// #DB, #BP and #OF; #DF and #MC, which are aborts.
	constexpr u32 no_faults = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 18;
	const bool fault =
		event.kind == Event::Kind::exception && !(no_faults >> (event.vector & 31) & 1);
	return fault ? x.rflags | flag::rf : x.rflags;
}

// By the interrupt vector table at `base`: in real-address mode, and virtual-8086 mode where the
// redirection bitmap says so.
Outcome<> deliver_8086(Execution &x, u64 base, u8 vector, u64 image)
{
	const u64 entry = TRY(x.read_system(base, u64{vector} * 4, 4));
	Segment cs = x.guest.segment(SegmentName::cs);
	const u64 values[] = {image, cs.selector, x.rip};
	TRY(x.push_all(values, 2));
	cs.selector = static_cast<u16>(entry >> 16);
	cs.base = u64{cs.selector} << 4;
	x.guest.set_segment(SegmentName::cs, cs);
	x.rip = entry & 0xffff;
	x.rflags &= ~(flag::tf | flag::rf);
	return {};
}

// SDM vol. 3, table 20-2: whether INT n of virtual-8086 mode goes to the 8086 program's handler.
Outcome<bool> redirected(Execution &x, u8 vector)
{
	if (x.guest.control(4) & X86_CR4_VME) {
		const Segment tr = x.guest.segment(SegmentName::tr);
		const u64 map = TRY(x.read_system(tr.base, 102, 2));
		const u64 offset = map - 32 + vector / 8;
		if (map < 32 || offset > tr.limit)
			return x.gp();
		const u64 byte = TRY(x.read_system(tr.base, offset, 1));
		if (!(byte & bit(vector % 8)))
			return true;
	}
	if (x.iopl() < 3)
		return x.gp();
	return false;
}

Outcome<> deliver_redirected(Execution &x, u8 vector)
{
	if (x.iopl() == 3) {
		TRY(deliver_8086(x, 0, vector, x.rflags));
		x.rflags &= ~flag::interrupt;
		return {};
	}
	u64 image = (x.rflags & ~flag::interrupt) | flag::iopl;
	if (x.rflags & flag::vif)
		image |= flag::interrupt;
	TRY(deliver_8086(x, 0, vector, image));
	x.rflags &= ~flag::vif;
	return {};
}

struct Gate {
	Descriptor descriptor;
	unsigned size; // of what is pushed
	bool clears_if;
};

Outcome<Gate> read_gate(Execution &x, const Event &event)
{
	const bool ia32e = x.long_mode_active();
	const unsigned bytes = ia32e ? 16 : 8;
	const DescriptorTable idt = x.guest.idt();
	const u64 offset = u64{event.vector} * bytes;
	if (offset + bytes - 1 > idt.limit)
		return idt_fault(x, Vector::general_protection, event.vector);

	Gate gate{};
	gate.descriptor.low = TRY(x.read_system(idt.base, offset, 8));
	if (ia32e)
		gate.descriptor.high = TRY(x.read_system(idt.base, offset + 8, 8));
	const Descriptor &descriptor = gate.descriptor;
	const bool narrow = descriptor.is(SystemType::interrupt_gate16) ||
			    descriptor.is(SystemType::trap_gate16);
	const bool wide = descriptor.is(SystemType::interrupt_gate32) ||
			  descriptor.is(SystemType::trap_gate32);
	if (!wide && (ia32e || !(narrow || descriptor.is(SystemType::task_gate))))
		return idt_fault(x, Vector::general_protection, event.vector);
	if (event.kind == Event::Kind::software_interrupt && descriptor.dpl() < x.cpl())
		return idt_fault(x, Vector::general_protection, event.vector);
	if (!descriptor.present())
		return idt_fault(x, Vector::segment_not_present, event.vector);
	gate.size = ia32e ? 8 : wide ? 4 : 2;
	gate.clears_if = descriptor.is(SystemType::interrupt_gate32) ||
			 descriptor.is(SystemType::interrupt_gate16);
	return gate;
}

Outcome<Stack> handler_stack(Execution &x, const Gate &gate, bool inner, unsigned level)
{
	if (!x.long_mode_active())
		return inner ? inner_stack(x, level, 0) : current_stack(x);
	const unsigned ist = gate.descriptor.gate_stack();
	Stack stack = current_stack(x);
	if (inner || ist)
		stack = TRY(inner_stack(x, level, ist));
	stack.loads_segment = inner;
	// SDM vol. 3, 6.14.2.
	stack.pointer &= ~u64{15};
	return stack;
}

Outcome<> deliver_protected(Execution &x, const Event &event)
{
	const Gate gate = TRY(read_gate(x, event));
	if (gate.descriptor.is(SystemType::task_gate)) {
		// An instruction's return address is in place; an event's is where it struck.
		return switch_task(x, gate.descriptor.gate_selector(), TaskSwitch::interrupt_gate,
			event.error_code);
	}
	const u16 selector = gate.descriptor.gate_selector();
	if (is_null(selector))
		return x.gp();
	Descriptor code = TRY(read_descriptor(x, selector));
	const bool ia32e = x.long_mode_active(), from_8086 = x.mode == Mode::virtual8086;
	const unsigned cpl = x.cpl();
	const bool inner = !code.rights().conforming() && code.dpl() < cpl;
	const unsigned level = inner ? code.dpl() : cpl;
	if (!valid_code(x, code) || code.dpl() > cpl || (ia32e && !code.rights().long_mode()) ||
		(from_8086 && (!inner || level != 0)))
		return x.gp(selector);
	if (!code.present())
		return x.fault(Vector::segment_not_present, selector);

	Stack stack = TRY(handler_stack(x, gate, inner, level));
	const u64 offset =
		gate.size == 2 ? gate.descriptor.gate_offset16() : gate.descriptor.gate_offset();
	TRY(check_offset(x, code, offset));
	TRY(mark_descriptor(x, code, Descriptor::accessed_bit));

	std::array<u64, 10> values;
	unsigned count = 0;
	const auto add_selector = [&](SegmentName name) {
		values[count++] = x.guest.segment(name).selector;
	};
	if (from_8086)
		for (SegmentName name :
			{SegmentName::gs, SegmentName::fs, SegmentName::ds, SegmentName::es})
			add_selector(name);
	if (inner || ia32e) {
		add_selector(SegmentName::ss);
		values[count++] = x.gpr[Gpr::rsp];
	}
	values[count++] = flags_image(x, event);
	add_selector(SegmentName::cs);
	values[count++] = x.rip;
	if (event.error_code)
		values[count++] = *event.error_code;
	TRY(stack.push(x, std::span{values}.first(count), gate.size));

	stack.make_current(x);
	enter_code(x, code, selector, level, offset);
	if (from_8086)
		for (SegmentName name :
			{SegmentName::gs, SegmentName::fs, SegmentName::ds, SegmentName::es})
			x.guest.set_segment(name, null_segment(0));
	x.rflags &= ~(flag::tf | flag::nt | flag::rf | flag::vm);
	if (gate.clears_if)
		x.rflags &= ~flag::interrupt;
	return {};
}

} // namespace

Outcome<> deliver(Execution &x, const Event &event)
{
	x.external = !is_instruction(event.kind);
	if (x.mode != Mode::real)
		return deliver_protected(x, event);

	const DescriptorTable ivt = x.guest.idt();
	if (event.vector * 4u + 3 > ivt.limit)
		return x.gp();
	TRY(deliver_8086(x, ivt.base, event.vector, x.rflags));
	x.rflags &= ~(flag::interrupt | flag::ac);
	return {};
}

Outcome<> deliver(Guest &guest, Registers &registers, const Event &event)
{
	Instruction none;
	Execution x{guest, registers, guest.mode(), none};
	TRY(deliver(x, event));
	x.commit();
	return {};
}

namespace op
{

Outcome<> int_n(Execution &x)
{
	const u8 vector = static_cast<u8>(x.dst.value);
	if (x.mode == Mode::virtual8086 && TRY(redirected(x, vector)))
		return deliver_redirected(x, vector);
	return deliver(x, {vector, Event::Kind::software_interrupt, {}});
}

Outcome<> int3(Execution &x)
{
	return deliver(x, {3, Event::Kind::software_interrupt, {}});
}

Outcome<> into(Execution &x)
{
	if (!(x.rflags & flag::of))
		return {};
	return deliver(x, {4, Event::Kind::software_interrupt, {}});
}

Outcome<> int1(Execution &x)
{
	TRY(deliver(x, {1, Event::Kind::privileged_software, {}}));
	// A debug exception's handler may use the debug registers (SDM vol. 3, 18.2.4).
	constexpr u64 dr7_gd = bit(13);
	const u64 dr7 = x.guest.debug(7);
	return dr7 & dr7_gd ? x.guest.set_debug(7, dr7 & ~dr7_gd) : Outcome<>{};
}

} // namespace op

} // namespace kvmpp::x86::emulator
