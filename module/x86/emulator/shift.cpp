// SPDX-License-Identifier: GPL-2.0-only
// Shifts and rotations. A count of 0 leaves the flags alone; OF is defined for a count of 1 only,
// and is computed the same way for others.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

// SDM vol. 2, SAL: five bits of the count count, six for 8-byte operands.
unsigned shift_count(const Operand &operand, u64 count)
{
	return count & (operand.size == 8 ? 0x3f : 0x1f);
}

bool top(u64 value, unsigned size)
{
	return value & sign_bit(size);
}

void set_shift_flags(Execution &x, u64 value, bool carry, bool overflow)
{
	x.set_flags(
		flags_of(value, x.dst.size) | (carry ? flag::cf : 0) | (overflow ? flag::of : 0),
		flag::status);
	x.dst.value = value;
}

void set_rotate_flags(Execution &x, u64 value, bool carry, bool overflow)
{
	x.set_flags((carry ? flag::cf : 0) | (overflow ? flag::of : 0), flag::cf | flag::of);
	x.dst.value = value;
}

} // namespace

Outcome<> shl(Execution &x)
{
	const unsigned size = x.dst.size, count = shift_count(x.dst, x.src.value);
	if (count == 0)
		return {};
	const u64 before = x.dst.value << (count - 1);
	const bool carry = top(before, size);
	set_shift_flags(x, before << 1, carry, top(before << 1, size) != carry);
	return {};
}

Outcome<> shr(Execution &x)
{
	const unsigned count = shift_count(x.dst, x.src.value);
	if (count == 0)
		return {};
	const u64 before = x.dst.value >> (count - 1);
	set_shift_flags(x, before >> 1, before & 1, top(x.dst.value, x.dst.size));
	return {};
}

Outcome<> sar(Execution &x)
{
	const unsigned count = shift_count(x.dst, x.src.value);
	if (count == 0)
		return {};
	const s64 before = sign_extend(x.dst.value, x.dst.size) >> (count - 1);
	set_shift_flags(x, static_cast<u64>(before >> 1), before & 1, false);
	return {};
}

Outcome<> rol(Execution &x)
{
	const unsigned size = x.dst.size, count = shift_count(x.dst, x.src.value);
	if (count == 0)
		return {};
	const unsigned width = 8 * size, by = count % width;
	const u64 value = by ? x.dst.value << by | x.dst.value >> (width - by) : x.dst.value;
	const bool carry = value & 1;
	set_rotate_flags(x, value, carry, top(value, size) != carry);
	return {};
}

Outcome<> ror(Execution &x)
{
	const unsigned size = x.dst.size, count = shift_count(x.dst, x.src.value);
	if (count == 0)
		return {};
	const unsigned width = 8 * size, by = count % width;
	const u64 value = by ? x.dst.value >> by | x.dst.value << (width - by) : x.dst.value;
	set_rotate_flags(x, value, top(value, size), top(value, size) != top(value << 1, size));
	return {};
}

// Through the carry flag: one bit at a time, at most 63.
Outcome<> rcl(Execution &x)
{
	const unsigned size = x.dst.size;
	const unsigned count = shift_count(x.dst, x.src.value) % (8 * size + 1);
	u64 value = x.dst.value;
	bool carry = x.rflags & flag::cf;
	for (unsigned i = 0; i < count; ++i) {
		const bool out = top(value, size);
		value = value << 1 | carry;
		carry = out;
	}
	if (count)
		set_rotate_flags(x, value, carry, top(value, size) != carry);
	return {};
}

Outcome<> rcr(Execution &x)
{
	const unsigned size = x.dst.size;
	const unsigned count = shift_count(x.dst, x.src.value) % (8 * size + 1);
	u64 value = x.dst.value;
	bool carry = x.rflags & flag::cf;
	for (unsigned i = 0; i < count; ++i) {
		const bool out = value & 1;
		value = value >> 1 | (carry ? sign_bit(size) : 0);
		carry = out;
	}
	if (count)
		set_rotate_flags(x, value, carry, top(value, size) != top(value << 1, size));
	return {};
}

// SHLD and SHRD of 2 bytes by more than 16 are undefined; they run on into the other operand's
// repetition, as processors do.
Outcome<> shld(Execution &x)
{
	const unsigned size = x.dst.size, width = 8 * size;
	const unsigned count = shift_count(x.dst, x.src2.value);
	if (count == 0)
		return {};
	unsigned __int128 wide = static_cast<unsigned __int128>(x.dst.value) << width | x.src.value;
	if (size == 2)
		wide = wide << width | x.dst.value;
	const unsigned above = size == 2 ? 2 * width : width;
	const u64 before = static_cast<u64>(wide << (count - 1) >> above);
	const u64 value = static_cast<u64>(wide << count >> above);
	const bool carry = top(before, size);
	set_shift_flags(x, value & value_mask(size), carry, top(value, size) != top(before, size));
	return {};
}

Outcome<> shrd(Execution &x)
{
	const unsigned size = x.dst.size, width = 8 * size;
	const unsigned count = shift_count(x.dst, x.src2.value);
	if (count == 0)
		return {};
	unsigned __int128 wide = static_cast<unsigned __int128>(x.src.value) << width | x.dst.value;
	if (size == 2)
		wide |= static_cast<unsigned __int128>(x.dst.value) << (2 * width);
	const u64 before = static_cast<u64>(wide >> (count - 1));
	const u64 value = static_cast<u64>(wide >> count);
	set_shift_flags(
		x, value & value_mask(size), before & 1, top(value, size) != top(before, size));
	return {};
}

// --- BMI2: without flags, the count modulo the operand's width ---------------------------------

static unsigned masked_count(const Execution &x, u64 count)
{
	return count & (8 * x.dst.size - 1);
}

Outcome<> shlx(Execution &x)
{
	x.dst.value = x.src.value << masked_count(x, x.src2.value);
	return {};
}

Outcome<> shrx(Execution &x)
{
	x.dst.value = x.src.value >> masked_count(x, x.src2.value);
	return {};
}

Outcome<> sarx(Execution &x)
{
	const s64 value = sign_extend(x.src.value, x.src.size);
	x.dst.value = static_cast<u64>(value >> masked_count(x, x.src2.value));
	return {};
}

Outcome<> rorx(Execution &x)
{
	const unsigned count = masked_count(x, x.src2.value), width = 8 * x.dst.size;
	x.dst.value = x.src.value >> count;
	if (count)
		x.dst.value |= x.src.value << (width - count);
	return {};
}

} // namespace kvmpp::x86::emulator::op
