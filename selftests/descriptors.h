// SPDX-License-Identifier: GPL-2.0-only
// Descriptors in machine form: SDM vol. 3, 3.4.5, 3.5, 5.8.3, 6.11 and 8.2.
#pragma once

#include "harness.h"

namespace kvmpp::selftests::descriptor
{

// Types of system descriptors; those of a 16-bit kind are less by 8.
inline constexpr u8 ldt = 2, task_gate = 5, tss = 9, busy_tss = 11, call_gate = 12,
		    interrupt_gate = 14, trap_gate = 15, narrow = 8;
// Types of segments, accessed.
inline constexpr u8 read_only = 1, data = 3, expand_down = 7, execute_only = 9, code = 11,
		    conforming = 15;

// The size of code and of stacks, in bits 54:53: D/B and L.
enum class Size : u8 { bits16 = 0, bits64 = 1, bits32 = 2, both = 3 };

inline constexpr u64 present = 1ull << 47, granular = 1ull << 55, busy = 1ull << 41,
		     accessed = 1ull << 40;

constexpr u64 with_dpl(u64 dpl)
{
	return dpl << 45;
}

// `limit`: 20 bits, as it stands in the descriptor.
constexpr u64 placed(u64 base, u64 limit)
{
	return (limit & 0xffff) | (limit & 0xf0000) << 32 | (base & 0xff'ffff) << 16 |
	       (base >> 24 & 0xff) << 56;
}

constexpr u64 segment(u8 type, u64 dpl, Size size, u64 base = 0, u64 limit = 0xfffff | granular)
{
	return placed(base, limit & 0xfffff) | u64{type} << 40 | 1ull << 44 | with_dpl(dpl) |
	       present | static_cast<u64>(size) << 53 | (limit & granular);
}

constexpr u64 system(u8 type, u64 dpl, u64 base, u64 limit)
{
	return placed(base, limit) | u64{type} << 40 | with_dpl(dpl) | present;
}

// `count`: of parameters, or the stack that a 64-bit gate takes (IST).
constexpr u64 gate(u8 type, u64 dpl, u64 selector, u64 offset, u64 count = 0)
{
	return (offset & 0xffff) | selector << 16 | count << 32 | u64{type} << 40 | with_dpl(dpl) |
	       present | (offset >> 16 & 0xffff) << 48;
}

} // namespace kvmpp::selftests::descriptor
