// SPDX-License-Identifier: GPL-2.0-only
// Addition, subtraction, logic, and the exchanges built on them.
#include <algorithm>
#include <utility>
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

Outcome<> add(Execution &x)
{
	x.dst.value = x.take(sum(x.dst.value, x.src.value, false, x.dst.size));
	return {};
}

Outcome<> adc(Execution &x)
{
	x.dst.value = x.take(sum(x.dst.value, x.src.value, x.rflags & flag::cf, x.dst.size));
	return {};
}

Outcome<> sub(Execution &x)
{
	x.dst.value = x.take(difference(x.dst.value, x.src.value, false, x.dst.size));
	return {};
}

Outcome<> sbb(Execution &x)
{
	x.dst.value = x.take(difference(x.dst.value, x.src.value, x.rflags & flag::cf, x.dst.size));
	return {};
}

Outcome<> cmp(Execution &x)
{
	x.take(difference(x.dst.value, x.src.value, false, x.dst.size));
	return {};
}

Outcome<> and_(Execution &x)
{
	x.dst.value = x.take(logic_result(x.dst.value & x.src.value, x.dst.size));
	return {};
}

Outcome<> or_(Execution &x)
{
	x.dst.value = x.take(logic_result(x.dst.value | x.src.value, x.dst.size));
	return {};
}

Outcome<> xor_(Execution &x)
{
	x.dst.value = x.take(logic_result(x.dst.value ^ x.src.value, x.dst.size));
	return {};
}

Outcome<> test(Execution &x)
{
	x.take(logic_result(x.dst.value & x.src.value, x.dst.size));
	return {};
}

Outcome<> inc(Execution &x)
{
	const Computed computed = sum(x.dst.value, 1, false, x.dst.size);
	x.set_flags(computed.flags, flag::status & ~flag::cf);
	x.dst.value = computed.value;
	return {};
}

Outcome<> dec(Execution &x)
{
	const Computed computed = difference(x.dst.value, 1, false, x.dst.size);
	x.set_flags(computed.flags, flag::status & ~flag::cf);
	x.dst.value = computed.value;
	return {};
}

Outcome<> neg(Execution &x)
{
	x.dst.value = x.take(difference(0, x.dst.value, false, x.dst.size));
	return {};
}

Outcome<> not_(Execution &x)
{
	x.dst.value = ~x.dst.value;
	return {};
}

// ADCX and ADOX: each has a carry flag of its own and leaves the others alone.
static Outcome<> add_with(Execution &x, u64 carry_flag)
{
	const Computed computed = sum(x.dst.value, x.src.value, x.rflags & carry_flag, x.dst.size);
	x.set_flags(computed.flags & flag::cf ? carry_flag : 0, carry_flag);
	x.dst.value = computed.value;
	return {};
}

Outcome<> adcx(Execution &x)
{
	return add_with(x, flag::cf);
}

Outcome<> adox(Execution &x)
{
	return add_with(x, flag::of);
}

Outcome<> xadd(Execution &x)
{
	const u64 old = x.dst.value;
	x.dst.value = x.take(sum(old, x.src.value, false, x.dst.size));
	// In this order: XADD of a register with itself leaves the sum.
	return x.store(x.src, old);
}

Outcome<> xchg(Execution &x)
{
	// SDM vol. 2, XCHG: the LOCK protocol is used whether or not the prefix is there.
	x.instruction.lock = true;
	std::swap(x.dst.value, x.src.value);
	return x.store(x.src, x.src.value);
}

// 90 is NOP, not XCHG EAX, EAX, which would clear the upper half of RAX.
Outcome<> xchg_accumulator(Execution &x)
{
	if (x.dst.number == 0)
		return {};
	std::swap(x.dst.value, x.src.value);
	TRY(x.store(x.src, x.src.value));
	return x.store(x.dst, x.dst.value);
}

// Compares and exchanges `size` bytes of memory. On a difference `expected` holds what is there,
// and memory is written all the same (SDM vol. 2, CMPXCHG).
static Outcome<bool> exchange_memory(
	Execution &x, void *expected, const void *desired, unsigned size)
{
	const SegmentName segment = x.instruction.address.segment;
	const Gva where =
		TRY(x.linear(segment, x.address, size, Access::read_for_write, std::min(size, 8u)));
	if (x.instruction.lock)
		return x.guest.compare_exchange(where, expected, desired, size, Access::write);

	u8 found[16];
	TRY(x.read_linear(where, found, size, Access::read_for_write));
	const bool equal = __builtin_memcmp(found, expected, size) == 0;
	TRY(x.write_linear(where, equal ? desired : found, size, Access::write));
	__builtin_memcpy(expected, found, size);
	return equal;
}

Outcome<> cmpxchg(Execution &x)
{
	TRY(x.load(x.src));
	const unsigned size = x.dst.size;
	const u64 accumulator = x.get(Gpr::rax, size);
	u64 found = accumulator;
	bool equal = false;
	if (x.dst.in_memory()) {
		equal = TRY(exchange_memory(x, &found, &x.src.value, size));
	} else {
		TRY(x.load(x.dst));
		found = x.dst.value;
		equal = found == accumulator;
		// A register that differs keeps its upper half too.
		if (equal)
			TRY(x.store(x.dst, x.src.value));
	}
	if (!equal)
		x.set(Gpr::rax, found, size);
	x.take(difference(accumulator, found, false, size));
	return {};
}

Outcome<> cmpxchg_pair(Execution &x)
{
	const unsigned half = x.instruction.operand_size == 8 ? 8 : 4;
	if (half == 8) {
		if (!x.has(Feature::cx16))
			return x.undefined();
		const SegmentName segment = x.instruction.address.segment;
		const Gva where = TRY(x.linear(segment, x.address, 16, Access::read_for_write, 0));
		if (!where.aligned(16))
			return x.gp();
	}
	u8 expected[16], desired[16];
	__builtin_memcpy(expected, &x.gpr[Gpr::rax], half);
	__builtin_memcpy(expected + half, &x.gpr[Gpr::rdx], half);
	__builtin_memcpy(desired, &x.gpr[Gpr::rbx], half);
	__builtin_memcpy(desired + half, &x.gpr[Gpr::rcx], half);
	const bool equal = TRY(exchange_memory(x, expected, desired, 2 * half));
	x.set_flags(equal ? flag::zf : 0, flag::zf);
	if (!equal) {
		u64 low = 0, high = 0;
		__builtin_memcpy(&low, expected, half);
		__builtin_memcpy(&high, expected + half, half);
		x.set(Gpr::rax, low, half);
		x.set(Gpr::rdx, high, half);
	}
	return {};
}

} // namespace kvmpp::x86::emulator::op
