// SPDX-License-Identifier: GPL-2.0-only
// What MTRRs and the PAT may hold. SDM vol. 3, 12.11.2 and 12.12.2.
#pragma once

#include "host/types.h"
#include "x86/msr.h"

namespace kvmpp::x86
{

constexpr bool mtrr_type_valid(u64 type)
{
	return type < 8 && bit(type) & (bit(0) | bit(1) | bit(4) | bit(5) | bit(6));
}

constexpr bool mtrr_valid(u32 index, u64 value, unsigned physical_bits)
{
	if (index == msr::mtrr_default_type) {
		constexpr u64 enables = bit(10) | bit(11);
		return !(value & ~(enables | 0xff)) && mtrr_type_valid(value & 0xff);
	}
	if (index < msr::mtrr_fix_64k) {
		const u64 reserved = bits(63, physical_bits);
		const bool is_base = !(index & 1);
		return is_base ? !(value & (reserved | 0xf00)) && mtrr_type_valid(value & 0xff)
			       : !(value & (reserved | 0x7ff));
	}
	for (unsigned i = 0; i < 8; ++i)
		if (!mtrr_type_valid(value >> i * 8 & 0xff))
			return false;
	return true;
}

constexpr bool pat_valid(u64 value)
{
	for (unsigned i = 0; i < 8; ++i) {
		const u64 type = value >> i * 8 & 0xff;
		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

} // namespace kvmpp::x86
