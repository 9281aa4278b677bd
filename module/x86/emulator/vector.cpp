// SPDX-License-Identifier: GPL-2.0-only
// SSE, AVX and MMX instructions that move data without computing on it.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

constexpr unsigned xmm_size = 16;

struct Vector {
	alignas(32) u8 bytes[32] = {};
};

// Where the memory operand lies. #GP for an unaligned one of an instruction that does not allow it.
Outcome<Gva> place(Execution &x, unsigned size, Access access)
{
	const unsigned alignment = size <= 8 ? size : 0;
	const SegmentName segment = x.instruction.address.segment;
	const Gva where = TRY(x.linear(segment, x.address, size, access, alignment));
	if (x.instruction.row->rules & rule::aligned && !where.aligned(size))
		return x.gp();
	return where;
}

Outcome<> load(Execution &x, const Operand &from, void *to, unsigned size)
{
	using Kind = Operand::Kind;
	switch (from.kind) {
	case Kind::vector: x.guest.read_vector(from.number, to, size); return {};
	case Kind::mmx: {
		u64 value = 0;
		x.guest.read_mmx(from.number, value);
		__builtin_memcpy(to, &value, size);
		return {};
	}
	case Kind::gpr: __builtin_memcpy(to, &x.gpr.values[from.number], size); return {};
	default: {
		const Gva where = TRY(place(x, size, Access::read));
		return x.read_linear(where, to, size, Access::read);
	}
	}
}

Outcome<> store(Execution &x, const Operand &to, const void *from, unsigned size)
{
	using Kind = Operand::Kind;
	switch (to.kind) {
	case Kind::vector:
		x.guest.write_vector(to.number, from, size, x.instruction.vex);
		return {};
	case Kind::mmx: {
		u64 value = 0;
		__builtin_memcpy(&value, from, size);
		x.guest.write_mmx(to.number, value);
		return {};
	}
	case Kind::gpr: {
		u64 value = 0;
		__builtin_memcpy(&value, from, size);
		x.set(static_cast<Gpr>(to.number), value, size);
		return {};
	}
	default: {
		const Gva where = TRY(place(x, size, Access::write));
		return x.write_linear(where, from, size, Access::write);
	}
	}
}

// Reading an MMX register changes the x87 state: what is in the way of storing it is seen before.
Outcome<> prepare_store(Execution &x)
{
	if (x.src.kind != Operand::Kind::mmx || !x.dst.in_memory())
		return {};
	const Gva where = TRY(place(x, x.dst.size, Access::write));
	return x.guest.probe(where, x.dst.size, Access::write);
}

// The source of what is replaced only in part: a register of its own with VEX, otherwise the
// destination.
const Operand &background(const Execution &x)
{
	return x.instruction.vex ? x.src : x.dst;
}

const Operand &foreground(const Execution &x)
{
	return x.instruction.vex ? x.src2 : x.src;
}

// Eight bytes at `from` in the foreground (0 where it is memory) to `to` in the destination.
Outcome<> replace_half(Execution &x, unsigned from, unsigned to)
{
	Vector result, source;
	x.guest.read_vector(background(x).number, result.bytes, xmm_size);
	const bool memory = foreground(x).in_memory();
	TRY(load(x, foreground(x), source.bytes, memory ? 8 : xmm_size));
	__builtin_memcpy(result.bytes + to, source.bytes + (memory ? 0 : from), 8);
	return store(x, x.dst, result.bytes, xmm_size);
}

// Copies elements of `size` bytes, each from the place that `source_of` gives for it.
template <class SourceOf>
Outcome<> rearrange(Execution &x, unsigned size, SourceOf source_of)
{
	Vector source, result;
	TRY(load(x, x.src, source.bytes, x.src.size));
	for (unsigned at = 0; at < x.dst.size; at += size)
		__builtin_memcpy(result.bytes + at, source.bytes + source_of(at), size);
	return store(x, x.dst, result.bytes, x.dst.size);
}

} // namespace

Outcome<> move_vector(Execution &x)
{
	Vector value;
	TRY(prepare_store(x));
	TRY(load(x, x.src, value.bytes, x.src.size));
	return store(x, x.dst, value.bytes, x.dst.size);
}

// A scalar; a vector register that receives it is cleared above.
Outcome<> move_low(Execution &x)
{
	Vector value;
	TRY(prepare_store(x));
	TRY(load(x, x.src, value.bytes, x.src.size));
	const bool to_vector = x.dst.kind == Operand::Kind::vector;
	return store(x, x.dst, value.bytes, to_vector ? xmm_size : x.dst.size);
}

// A scalar between registers: the rest of the destination stays, or comes from another one.
Outcome<> merge_low(Execution &x)
{
	Vector result;
	x.guest.read_vector(background(x).number, result.bytes, xmm_size);
	TRY(load(x, foreground(x), result.bytes, foreground(x).size));
	return store(x, x.dst, result.bytes, xmm_size);
}

Outcome<> load_low_half(Execution &x)
{
	return replace_half(x, 8, 0);
}

Outcome<> load_high_half(Execution &x)
{
	return replace_half(x, 0, 8);
}

Outcome<> store_high_half(Execution &x)
{
	Vector value;
	x.guest.read_vector(x.src.number, value.bytes, xmm_size);
	return store(x, x.dst, value.bytes + 8, 8);
}

Outcome<> movddup(Execution &x)
{
	return rearrange(x, 8, [](unsigned at) { return at & ~15u; });
}

Outcome<> movsldup(Execution &x)
{
	return rearrange(x, 4, [](unsigned at) { return at & ~7u; });
}

Outcome<> movshdup(Execution &x)
{
	return rearrange(x, 4, [](unsigned at) { return at | 4; });
}

// MASKMOVQ and MASKMOVDQU: to DS:RDI, those bytes of which the mask has the top bit set.
Outcome<> store_masked(Execution &x)
{
	Vector value, mask;
	const unsigned size = x.dst.size;
	const u64 offset = x.get(Gpr::rdi, x.instruction.address_size);
	const Gva to = TRY(x.linear(x.instruction.data_segment, offset, size, Access::write, 0));
	TRY(x.guest.probe(to, size, Access::write));
	TRY(load(x, x.dst, value.bytes, size));
	TRY(load(x, x.src, mask.bytes, size));
	for (unsigned from = 0; from < size; ++from) {
		unsigned end = from;
		while (end < size && mask.bytes[end] & 0x80)
			++end;
		if (end > from)
			TRY(x.write_linear(
				to + from, value.bytes + from, end - from, Access::write));
		from = end;
	}
	return {};
}

} // namespace kvmpp::x86::emulator::op
