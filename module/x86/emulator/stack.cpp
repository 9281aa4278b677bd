// SPDX-License-Identifier: GPL-2.0-only
// PUSH, POP, and the flags, frames and registers that go through the stack.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

Outcome<> push(Execution &x)
{
	return x.push(x.dst.value, x.instruction.operand_size);
}

// With a 4-byte operand size only the selector's 2 bytes are written, as Intel processors do.
Outcome<> push_segment(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	if (size != 4)
		return x.push(x.dst.value, size);
	x.add(Gpr::rsp, -2, x.stack_size());
	return x.push(x.dst.value, 2);
}

Outcome<> pop(Execution &x)
{
	const u64 value = TRY(x.pop(x.instruction.operand_size));
	return x.store(x.dst, value);
}

// The address is computed with RSP as it is after the pop (SDM vol. 2, POP).
Outcome<> pop_rm(Execution &x)
{
	const u64 value = TRY(x.pop(x.instruction.operand_size));
	x.address = x.effective_address();
	return x.store(x.dst, value);
}

Outcome<> pusha(Execution &x)
{
	std::array<u64, 8> values;
	for (unsigned i = 0; i < 8; ++i)
		values[i] = x.gpr.values[i];
	return x.push_all(values, x.instruction.operand_size);
}

Outcome<> popa(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	for (unsigned i = 8; i-- > 0;) {
		const u64 value = TRY(x.pop(size));
		const Gpr name = static_cast<Gpr>(i);
		if (name != Gpr::rsp)
			x.set(name, value, size);
	}
	return {};
}

// SDM vol. 2, ENTER. The top of the new frame must be writable, which is seen last.
Outcome<> enter(Execution &x)
{
	const unsigned size = x.instruction.operand_size, width = x.stack_size();
	const u64 allocation = x.dst.value;
	const unsigned level = x.src.value % 32;
	const u64 frame = (x.gpr[Gpr::rsp] - size) & value_mask(width);

	std::array<u64, 33> values;
	unsigned count = 0;
	values[count++] = x.gpr[Gpr::rbp];
	for (unsigned i = 1; i < level; ++i) {
		const u64 offset = (x.gpr[Gpr::rbp] - u64{i} * size) & value_mask(width);
		u64 value = TRY(x.read_value(SegmentName::ss, offset, size));
		// Where it overlaps what was pushed before, that is what is there.
		for (unsigned n = 0; n < size; ++n) {
			const u64 below = (x.gpr[Gpr::rsp] - 1 - offset - n) & value_mask(width);
			if (below >= u64{count} * size)
				continue;
			const u64 byte =
				values[below / size] >> 8 * (size - 1 - below % size) & 0xff;
			value = (value & ~(u64{0xff} << 8 * n)) | byte << 8 * n;
		}
		values[count++] = value;
	}
	if (level > 0)
		values[count++] = frame;

	const u64 top = (x.gpr[Gpr::rsp] - u64{count} * size - allocation) & value_mask(width);
	TRY(x.push_all(std::span{values}.first(count), size));
	const Gva lowest = TRY(x.linear(SegmentName::ss, top, size, Access::write, size));
	TRY(x.guest.probe(lowest, size, Access::write));
	x.set(Gpr::rsp, top, width);
	x.set(Gpr::rbp, frame, size);
	return {};
}

Outcome<> leave(Execution &x)
{
	const unsigned size = x.instruction.operand_size, width = x.stack_size();
	x.set(Gpr::rsp, x.gpr[Gpr::rbp], width);
	const u64 value = TRY(x.pop(size));
	x.set(Gpr::rbp, value, size);
	return {};
}

// --- PUSHF and POPF: SDM vol. 2, with vol. 3, 20.3 for virtual-8086 mode
// ----------------------------

static bool virtual_interrupts(Execution &x)
{
	return x.guest.control(4) & X86_CR4_VME;
}

Outcome<> pushf(Execution &x)
{
	u64 image = x.rflags & ~(flag::vm | flag::rf);
	if (x.mode == Mode::virtual8086 && x.iopl() < 3) {
		if (x.instruction.operand_size != 2 || !virtual_interrupts(x))
			return x.gp();
		image = (image & ~flag::interrupt) | flag::iopl;
		if (x.rflags & flag::vif)
			image |= flag::interrupt;
	}
	return x.push(image, x.instruction.operand_size);
}

Outcome<> popf(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	u64 changeable = flag::status | flag::tf | flag::df | flag::nt;
	if (size > 2)
		changeable |= flag::ac | flag::id;

	if (x.mode == Mode::virtual8086) {
		if (x.iopl() < 3) {
			if (size != 2 || !virtual_interrupts(x))
				return x.gp();
			const u64 image = TRY(x.pop(size));
			if (image & flag::tf || (image & flag::interrupt && x.rflags & flag::vip))
				return x.gp();
			x.set_flags(image, changeable);
			x.set_flags(image & flag::interrupt ? flag::vif : 0, flag::vif);
			return {};
		}
		changeable |= flag::interrupt;
	} else {
		const unsigned cpl = x.cpl();
		if (cpl <= x.iopl())
			changeable |= flag::interrupt;
		if (cpl == 0)
			changeable |= flag::iopl;
	}
	const u64 image = TRY(x.pop(size));
	x.set_flags(image, changeable);
	return {};
}

} // namespace kvmpp::x86::emulator::op
