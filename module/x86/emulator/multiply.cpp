// SPDX-License-Identifier: GPL-2.0-only
// Multiplication, division and decimal adjustment.
#include <optional>
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

std::unexpected<Stop> divide_error(Execution &x)
{
	return x.raise(Exception::plain(Vector::divide_error));
}

// A product or dividend twice as wide as an operand: AX, DX:AX, EDX:EAX, RDX:RAX.
void set_wide(Execution &x, u64 low, u64 high, unsigned size)
{
	if (size == 1) {
		x.set(Gpr::rax, (low & 0xff) | high << 8, 2);
		return;
	}
	x.set(Gpr::rax, low, size);
	x.set(Gpr::rdx, high, size);
}

struct Product {
	u64 low, high;
};

Product multiply(u64 a, u64 b, unsigned size)
{
	const unsigned __int128 whole = static_cast<unsigned __int128>(a) * b;
	if (size == 8)
		return {static_cast<u64>(whole), static_cast<u64>(whole >> 64)};
	return {static_cast<u64>(whole), static_cast<u64>(whole) >> (8 * size)};
}

Product multiply_signed(u64 a, u64 b, unsigned size)
{
	const __int128 whole = static_cast<__int128>(sign_extend(a, size)) * sign_extend(b, size);
	return {static_cast<u64>(whole), static_cast<u64>(whole >> (8 * size))};
}

// CF and OF: whether the upper half says anything. The other flags are undefined; they become what
// the lower half makes them.
void set_product_flags(Execution &x, u64 low, bool overflow, unsigned size)
{
	x.set_flags(flags_of(low, size) | (overflow ? flag::cf | flag::of : 0), flag::status);
}

struct Quotient {
	u64 quotient, remainder;
};

// None when the quotient does not fit, or the divisor is 0.
std::optional<Quotient> divide(u64 low, u64 high, u64 divisor, unsigned size)
{
	if (high >= divisor)
		return {};
	if (size < 8) {
		const u64 dividend = high << (8 * size) | low;
		return Quotient{dividend / divisor, dividend % divisor};
	}
	// By the instruction: the kernel has no 128-bit division.
	u64 quotient, remainder;
	asm("divq %4" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), "r"(divisor) : "cc");
	return Quotient{quotient, remainder};
}

std::optional<Quotient> divide_signed(u64 low, u64 high, u64 divisor, unsigned size)
{
	const u64 mask = value_mask(size);
	const bool negative = high & sign_bit(size), opposite = divisor & sign_bit(size);
	if (negative) {
		high = (~high + (low == 0)) & mask;
		low = -low & mask;
	}
	if (opposite)
		divisor = -divisor & mask;
	std::optional<Quotient> result = divide(low, high, divisor, size);
	if (!result || result->quotient > sign_bit(size) - (negative == opposite))
		return {};
	if (negative != opposite)
		result->quotient = -result->quotient;
	if (negative)
		result->remainder = -result->remainder;
	return result;
}

template <auto divide_by>
Outcome<> divide_accumulator(Execution &x)
{
	const unsigned size = x.dst.size;
	const u64 low = x.get(Gpr::rax, size);
	const u64 high = size == 1 ? x.get(Gpr::rax, 2) >> 8 : x.get(Gpr::rdx, size);
	const std::optional<Quotient> result = divide_by(low, high, x.dst.value, size);
	if (!result)
		return divide_error(x);
	set_wide(x, result->quotient, result->remainder & value_mask(size), size);
	return {};
}

} // namespace

Outcome<> mul(Execution &x)
{
	const unsigned size = x.dst.size;
	const Product product = multiply(x.get(Gpr::rax, size), x.dst.value, size);
	set_wide(x, product.low, product.high, size);
	set_product_flags(x, product.low, product.high & value_mask(size), size);
	return {};
}

Outcome<> imul(Execution &x)
{
	const unsigned size = x.dst.size;
	const Product product = multiply_signed(x.get(Gpr::rax, size), x.dst.value, size);
	const u64 high = product.high & value_mask(size);
	set_wide(x, product.low, high, size);
	const u64 sign = product.low & sign_bit(size) ? value_mask(size) : 0;
	set_product_flags(x, product.low, high != sign, size);
	return {};
}

static Outcome<> imul_truncated(Execution &x, u64 a, u64 b)
{
	const unsigned size = x.dst.size;
	const Product product = multiply_signed(a, b, size);
	const u64 sign = product.low & sign_bit(size) ? value_mask(size) : 0;
	set_product_flags(x, product.low, (product.high & value_mask(size)) != sign, size);
	x.dst.value = product.low;
	return {};
}

Outcome<> imul_two(Execution &x)
{
	return imul_truncated(x, x.dst.value, x.src.value);
}

Outcome<> imul_three(Execution &x)
{
	return imul_truncated(x, x.src.value, x.src2.value);
}

Outcome<> div(Execution &x)
{
	return divide_accumulator<divide>(x);
}

Outcome<> idiv(Execution &x)
{
	return divide_accumulator<divide_signed>(x);
}

// MULX: first the lower half, so that the upper wins where both name one register.
Outcome<> mulx(Execution &x)
{
	const unsigned size = x.dst.size;
	const Product product = multiply(x.get(Gpr::rdx, size), x.src2.value, size);
	TRY(x.store(x.src, product.low));
	x.dst.value = product.high;
	return {};
}

// --- decimal adjustment: SDM vol. 2, AAA to DAS ------------------------------------------------

static void adjust_packed(Execution &x, bool add)
{
	const u64 old = x.get(Gpr::rax, 1);
	const bool carry = x.rflags & flag::cf;
	const bool low = (old & 0xf) > 9 || x.rflags & flag::af;
	const bool high = old > 0x99 || carry;
	const u64 step = (low ? 6 : 0) + (high ? 0x60 : 0);
	const u64 value = (add ? old + step : old - step) & 0xff;
	// DAS also takes the borrow of its first step, which a carry cannot have hidden.
	const bool borrow = !add && low && old < 6;
	u64 flags = flags_of(value, 1);
	if (low)
		flags |= flag::af;
	if (high || borrow)
		flags |= flag::cf;
	x.set_flags(flags, flag::status);
	x.set(Gpr::rax, value, 1);
}

Outcome<> daa(Execution &x)
{
	adjust_packed(x, true);
	return {};
}

Outcome<> das(Execution &x)
{
	adjust_packed(x, false);
	return {};
}

static void adjust_unpacked(Execution &x, u64 step)
{
	u64 ax = x.get(Gpr::rax, 2);
	const bool adjust = (ax & 0xf) > 9 || x.rflags & flag::af;
	if (adjust)
		ax += step;
	ax &= 0xff0f;
	x.set_flags(flags_of(ax, 1) | (adjust ? flag::af | flag::cf : 0), flag::status);
	x.set(Gpr::rax, ax, 2);
}

Outcome<> aaa(Execution &x)
{
	adjust_unpacked(x, 0x106);
	return {};
}

Outcome<> aas(Execution &x)
{
	adjust_unpacked(x, static_cast<u64>(-0x106));
	return {};
}

Outcome<> aam(Execution &x)
{
	const u64 al = x.get(Gpr::rax, 1), base = x.dst.value;
	if (base == 0)
		return divide_error(x);
	x.set(Gpr::rax, al / base << 8 | al % base, 2);
	x.set_flags(flags_of(al % base, 1), flag::status);
	return {};
}

Outcome<> aad(Execution &x)
{
	const u64 ax = x.get(Gpr::rax, 2);
	const u64 value = ((ax & 0xff) + (ax >> 8) * x.dst.value) & 0xff;
	x.set(Gpr::rax, value, 2);
	x.set_flags(flags_of(value, 1), flag::status);
	return {};
}

} // namespace kvmpp::x86::emulator::op
