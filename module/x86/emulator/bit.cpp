// SPDX-License-Identifier: GPL-2.0-only
// Single bits, bit scans and counts, bit fields, byte order, CRC32.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

// BT and kin with a bit number in a register reach beyond a memory operand, to either side
// (SDM vol. 2, 3.1.1.9).
void move_to_bit(Execution &x)
{
	if (x.dst.kind != Operand::Kind::memory || x.src.kind != Operand::Kind::gpr)
		return;
	const s64 bit_number = sign_extend(x.src.value, x.src.size);
	const s64 width = 8 * x.dst.size;
	const s64 step = (bit_number & -width) / 8;
	x.address = (x.address + static_cast<u64>(step)) & value_mask(x.instruction.address_size);
}

template <auto change>
Outcome<> change_bit(Execution &x)
{
	TRY(x.load(x.src));
	move_to_bit(x);
	TRY(x.load(x.dst));
	const u64 mask = bit(x.src.value & (8 * x.dst.size - 1));
	x.set_flags(x.dst.value & mask ? flag::cf : 0, flag::cf);
	return x.update(x.dst.value, change(x.dst.value, mask));
}

void byte_swap(u64 &value, unsigned size)
{
	value = __builtin_bswap64(value) >> (64 - 8 * size);
}

unsigned trailing_zeros(u64 value, unsigned size)
{
	return value ? static_cast<unsigned>(__builtin_ctzll(value)) : 8 * size;
}

unsigned leading_zeros(u64 value, unsigned size)
{
	return 8 * size - (value ? 64 - static_cast<unsigned>(__builtin_clzll(value)) : 0);
}

// By halves: the kernel has no __popcountdi2 for modules.
unsigned ones(u64 value)
{
	value -= value >> 1 & 0x5555555555555555;
	value = (value & 0x3333333333333333) + (value >> 2 & 0x3333333333333333);
	value = (value + (value >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return static_cast<unsigned>(value * 0x0101010101010101 >> 56);
}

} // namespace

Outcome<> bt(Execution &x)
{
	TRY(x.load(x.src));
	move_to_bit(x);
	TRY(x.load(x.dst));
	const u64 mask = bit(x.src.value & (8 * x.dst.size - 1));
	x.set_flags(x.dst.value & mask ? flag::cf : 0, flag::cf);
	return {};
}

Outcome<> bts(Execution &x)
{
	return change_bit<[](u64 value, u64 mask) { return value | mask; }>(x);
}

Outcome<> btr(Execution &x)
{
	return change_bit<[](u64 value, u64 mask) { return value & ~mask; }>(x);
}

Outcome<> btc(Execution &x)
{
	return change_bit<[](u64 value, u64 mask) { return value ^ mask; }>(x);
}

// With a source of 0 the destination keeps all its bits, the upper ones of a register too.
Outcome<> bsf(Execution &x)
{
	TRY(x.load(x.src));
	x.set_flags(flags_of(x.src.value, x.src.size), flag::zf);
	return x.src.value ? x.store(x.dst, trailing_zeros(x.src.value, x.src.size)) : Outcome<>{};
}

Outcome<> bsr(Execution &x)
{
	TRY(x.load(x.src));
	x.set_flags(flags_of(x.src.value, x.src.size), flag::zf);
	const unsigned highest = 8 * x.src.size - 1 - leading_zeros(x.src.value, x.src.size);
	return x.src.value ? x.store(x.dst, highest) : Outcome<>{};
}

static Outcome<> store_count(Execution &x, unsigned count)
{
	x.set_flags((x.src.value ? 0 : flag::cf) | (count ? 0 : flag::zf), flag::cf | flag::zf);
	return x.store(x.dst, count);
}

// A processor without these ignores the prefix that tells them from BSF and BSR.
Outcome<> tzcnt(Execution &x)
{
	if (!x.has(Feature::bmi1))
		return bsf(x);
	TRY(x.load(x.src));
	return store_count(x, trailing_zeros(x.src.value, x.src.size));
}

Outcome<> lzcnt(Execution &x)
{
	if (!x.has(Feature::lzcnt))
		return bsr(x);
	TRY(x.load(x.src));
	return store_count(x, leading_zeros(x.src.value, x.src.size));
}

Outcome<> popcnt(Execution &x)
{
	x.set_flags(x.src.value ? 0 : flag::zf, flag::status);
	x.dst.value = ones(x.src.value);
	return {};
}

Outcome<> bswap(Execution &x)
{
	// Undefined for 2 bytes: processors clear them.
	if (x.dst.size == 2)
		x.dst.value = 0;
	else
		byte_swap(x.dst.value, x.dst.size);
	return {};
}

Outcome<> movbe(Execution &x)
{
	x.dst.value = x.src.value;
	byte_swap(x.dst.value, x.src.size);
	return {};
}

// The Castagnoli polynomial, bit-reversed.
Outcome<> crc32(Execution &x)
{
	u32 crc = static_cast<u32>(x.dst.value);
	for (unsigned i = 0; i < 8 * x.src.size; ++i) {
		const u32 low = (crc ^ static_cast<u32>(x.src.value >> i)) & 1;
		crc = crc >> 1 ^ (low ? 0x82f63b78 : 0);
	}
	x.dst.value = crc;
	return {};
}

// --- BMI1 and BMI2 ------------------------------------------------------------------------------

Outcome<> andn(Execution &x)
{
	x.dst.value = x.take(logic_result(~x.src.value & x.src2.value, x.dst.size));
	return {};
}

static void store_field(Execution &x, u64 value, bool carry)
{
	x.set_flags(flags_of(value, x.dst.size) | (carry ? flag::cf : 0), flag::status);
	x.dst.value = value & value_mask(x.dst.size);
}

Outcome<> blsr(Execution &x)
{
	store_field(x, x.src.value & (x.src.value - 1), !x.src.value);
	return {};
}

Outcome<> blsmsk(Execution &x)
{
	store_field(x, x.src.value ^ (x.src.value - 1), !x.src.value);
	return {};
}

Outcome<> blsi(Execution &x)
{
	store_field(x, x.src.value & -x.src.value, x.src.value);
	return {};
}

Outcome<> bextr(Execution &x)
{
	const unsigned start = x.src2.value & 0xff, length = x.src2.value >> 8 & 0xff;
	u64 value = start < 64 ? x.src.value >> start : 0;
	if (length < 64)
		value &= bit(length) - 1;
	store_field(x, value, false);
	return {};
}

Outcome<> bzhi(Execution &x)
{
	const unsigned length = x.src2.value & 0xff, width = 8 * x.dst.size;
	const u64 value = length < width ? x.src.value & (bit(length) - 1) : x.src.value;
	store_field(x, value, length >= width);
	return {};
}

Outcome<> pdep(Execution &x)
{
	u64 value = 0, from = x.src.value;
	for (u64 mask = x.src2.value; mask; mask &= mask - 1, from >>= 1)
		value |= from & 1 ? mask & -mask : 0;
	x.dst.value = value;
	return {};
}

Outcome<> pext(Execution &x)
{
	u64 value = 0;
	unsigned at = 0;
	for (u64 mask = x.src2.value; mask; mask &= mask - 1)
		value |= u64{(x.src.value & mask & -mask) != 0} << at++;
	x.dst.value = value;
	return {};
}

} // namespace kvmpp::x86::emulator::op
