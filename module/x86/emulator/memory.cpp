// SPDX-License-Identifier: GPL-2.0-only
// Memory of an instruction under way: segmentation, alignment, the stack. SDM vol. 3, ch. 5.
#include <algorithm>
#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator
{

namespace
{

constexpr u64 four_gib = bit(32);

constexpr bool writes(Access access)
{
	return access == Access::write || access == Access::read_for_write;
}

} // namespace

// SDM vol. 3, 5.3.
bool segment_contains(const Segment &segment, u64 offset, unsigned size)
{
	const u64 last = offset + size - 1;
	if (!segment.rights.expand_down())
		return last <= segment.limit;
	return offset > segment.limit && last <= (segment.rights.big() ? 0xffff'ffff : 0xffff);
}

Outcome<Gva> Execution::linear(
	SegmentName name, u64 offset, unsigned size, Access access, unsigned alignment)
{
	Gva result{offset};
	if (long_mode()) {
		if (name >= SegmentName::fs)
			result.value += guest.segment(name).base;
		if (!canonical(result.value) || !canonical(result.value + size - 1))
			return address_fault(name);
	} else {
		const Segment segment = guest.segment(name);
		if (protected_mode()) {
			const AccessRights rights = segment.rights;
			if (rights.unusable() ||
				!(writes(access) ? rights.writable() : rights.readable()))
				return address_fault(name);
		}
		if (!segment_contains(segment, offset, size))
			return address_fault(name);
		result.value = (segment.base + offset) % four_gib;
	}
	// SDM vol. 3, 6.15, #AC. A page fault comes first.
	if (rflags & flag::ac && alignment > 1 && !result.aligned(alignment) && cpl() == 3 &&
		guest.control(0) & X86_CR0_AM) {
		TRY(guest.probe(result, size, access));
		return raise(Exception::coded(Vector::alignment_check, 0));
	}
	return result;
}

Outcome<> Execution::read(SegmentName name, u64 offset, void *data, unsigned size, Access access)
{
	const Gva from = TRY(linear(name, offset, size, access, size));
	return read_linear(from, data, size, access);
}

Outcome<> Execution::write(SegmentName name, u64 offset, const void *data, unsigned size)
{
	const Gva to = TRY(linear(name, offset, size, Access::write, size));
	return write_linear(to, data, size, Access::write);
}

Outcome<u64> Execution::read_value(SegmentName name, u64 offset, unsigned size, Access access)
{
	u64 value = 0;
	TRY(read(name, offset, &value, size, access));
	return value;
}

Outcome<> Execution::write_value(SegmentName name, u64 offset, u64 value, unsigned size)
{
	return write(name, offset, &value, size);
}

Outcome<> Execution::read_operand(void *data, unsigned size, unsigned displacement)
{
	const u64 offset = (address + displacement) & value_mask(instruction.address_size);
	const Gva from = TRY(linear(instruction.address.segment, offset, size, Access::read, 0));
	return read_linear(from, data, size, Access::read);
}

Outcome<> Execution::write_operand(const void *data, unsigned size, unsigned displacement)
{
	const u64 offset = (address + displacement) & value_mask(instruction.address_size);
	const Gva to = TRY(linear(instruction.address.segment, offset, size, Access::write, 0));
	return write_linear(to, data, size, Access::write);
}

Outcome<> Execution::read_linear(Gva from, void *data, unsigned size, Access access)
{
	if (long_mode() || from.value + size <= four_gib)
		return guest.read(from, data, size, access);
	const unsigned head = static_cast<unsigned>(four_gib - from.value);
	TRY(guest.read(from, data, head, access));
	return guest.read(Gva{0}, static_cast<u8 *>(data) + head, size - head, access);
}

Outcome<> Execution::write_linear(Gva to, const void *data, unsigned size, Access access)
{
	if (long_mode() || to.value + size <= four_gib)
		return guest.write(to, data, size, access);
	const unsigned head = static_cast<unsigned>(four_gib - to.value);
	TRY(guest.probe(Gva{0}, size - head, access));
	TRY(guest.write(to, data, head, access));
	return guest.write(Gva{0}, static_cast<const u8 *>(data) + head, size - head, access);
}

Outcome<u64> Execution::read_system(u64 base, u64 offset, unsigned size)
{
	u64 value = 0;
	const u64 where = long_mode_active() ? base + offset : (base + offset) % four_gib;
	TRY(guest.read(Gva{where}, &value, size, Access::implicit_read));
	return value;
}

Outcome<> Execution::write_system(u64 base, u64 offset, u64 value, unsigned size)
{
	const u64 where = long_mode_active() ? base + offset : (base + offset) % four_gib;
	return guest.write(Gva{where}, &value, size, Access::implicit_write);
}

unsigned Execution::stack_size() const
{
	if (long_mode())
		return 8;
	return guest.segment(SegmentName::ss).rights.big() ? 4 : 2;
}

Outcome<> Execution::push(u64 value, unsigned size)
{
	const unsigned width = stack_size();
	const u64 top = (gpr[Gpr::rsp] - size) & value_mask(width);
	TRY(write_value(SegmentName::ss, top, value, size));
	set(Gpr::rsp, top, width);
	return {};
}

Outcome<> Execution::push_all(std::span<const u64> values, unsigned size)
{
	u8 image[64];
	const unsigned width = stack_size();
	const unsigned bytes = static_cast<unsigned>(values.size()) * size;
	const u64 top = (gpr[Gpr::rsp] - bytes) & value_mask(width);
	const bool wraps = top > value_mask(width) - (bytes - 1);
	if (bytes > sizeof(image) || wraps || rflags & flag::ac) {
		for (u64 value : values)
			TRY(push(value, size));
		return {};
	}
	// In one piece, so that a fault leaves nothing behind.
	for (usize i = 0; i < values.size(); ++i)
		__builtin_memcpy(&image[bytes - (i + 1) * size], &values[i], size);
	const Gva to = TRY(linear(SegmentName::ss, top, bytes, Access::write, 0));
	TRY(write_linear(to, image, bytes, Access::write));
	set(Gpr::rsp, top, width);
	return {};
}

Outcome<u64> Execution::peek(u64 displacement, unsigned size)
{
	const u64 offset = (gpr[Gpr::rsp] + displacement) & value_mask(stack_size());
	return read_value(SegmentName::ss, offset, size);
}

Outcome<u64> Execution::pop(unsigned size)
{
	const u64 value = TRY(peek(0, size));
	add(Gpr::rsp, size, stack_size());
	return value;
}

} // namespace kvmpp::x86::emulator
