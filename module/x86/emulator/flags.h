// SPDX-License-Identifier: GPL-2.0-only
// RFLAGS by name, and what arithmetic on operands of 1 to 8 bytes does to the status flags.
#pragma once

#include "host/types.h"
#include "x86/registers.h"

namespace kvmpp::x86::emulator
{

namespace flag
{
inline constexpr u64 cf = X86_EFLAGS_CF, fixed = X86_EFLAGS_FIXED, pf = X86_EFLAGS_PF,
		     af = X86_EFLAGS_AF, zf = X86_EFLAGS_ZF, sf = X86_EFLAGS_SF, tf = X86_EFLAGS_TF,
		     interrupt = X86_EFLAGS_IF, df = X86_EFLAGS_DF, of = X86_EFLAGS_OF,
		     iopl = X86_EFLAGS_IOPL, nt = X86_EFLAGS_NT, rf = X86_EFLAGS_RF,
		     vm = X86_EFLAGS_VM, ac = X86_EFLAGS_AC, vif = X86_EFLAGS_VIF,
		     vip = X86_EFLAGS_VIP, id = X86_EFLAGS_ID;
inline constexpr u64 status = cf | pf | af | zf | sf | of;
} // namespace flag

constexpr u64 value_mask(unsigned size)
{
	return bits(8 * size - 1, 0);
}

constexpr u64 sign_bit(unsigned size)
{
	return bit(8 * size - 1);
}

constexpr s64 sign_extend(u64 value, unsigned size)
{
	const unsigned unused = 64 - 8 * size;
	return static_cast<s64>(value << unused) >> unused;
}

// A result and the status flags that it sets.
struct Computed {
	u64 value;
	u64 flags;
};

// ZF, SF and PF.
constexpr u64 flags_of(u64 value, unsigned size)
{
	u64 flags = 0;
	if (!(value & value_mask(size)))
		flags |= flag::zf;
	if (value & sign_bit(size))
		flags |= flag::sf;
	if (!__builtin_parity(value & 0xff))
		flags |= flag::pf;
	return flags;
}

constexpr Computed logic_result(u64 value, unsigned size)
{
	return {value, flags_of(value, size)};
}

constexpr Computed sum(u64 a, u64 b, bool carry, unsigned size)
{
	const u64 value = a + b + carry;
	// Carries out of each bit position, and into it.
	const u64 out = (a & b) | ((a | b) & ~value);
	u64 flags = flags_of(value, size);
	if (out & sign_bit(size))
		flags |= flag::cf;
	if (((a ^ value) & (b ^ value)) & sign_bit(size))
		flags |= flag::of;
	if ((a ^ b ^ value) & 0x10)
		flags |= flag::af;
	return {value, flags};
}

constexpr Computed difference(u64 a, u64 b, bool borrow, unsigned size)
{
	const u64 value = a - b - borrow;
	const u64 out = (~a & b) | (~(a ^ b) & value);
	u64 flags = flags_of(value, size);
	if (out & sign_bit(size))
		flags |= flag::cf;
	if (((a ^ b) & (a ^ value)) & sign_bit(size))
		flags |= flag::of;
	if ((a ^ b ^ value) & 0x10)
		flags |= flag::af;
	return {value, flags};
}

// The sixteen conditions of Jcc, SETcc, CMOVcc (SDM vol. 1, B.1).
constexpr bool condition_holds(unsigned condition, u64 flags)
{
	const bool less = !(flags & flag::sf) != !(flags & flag::of);
	bool holds = false;
	switch (condition >> 1 & 7) {
	case 0: holds = flags & flag::of; break;
	case 1: holds = flags & flag::cf; break;
	case 2: holds = flags & flag::zf; break;
	case 3: holds = flags & (flag::cf | flag::zf); break;
	case 4: holds = flags & flag::sf; break;
	case 5: holds = flags & flag::pf; break;
	case 6: holds = less; break;
	case 7: holds = less || (flags & flag::zf); break;
	}
	return holds != (condition & 1);
}

} // namespace kvmpp::x86::emulator
