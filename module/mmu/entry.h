// SPDX-License-Identifier: GPL-2.0-only
// Entries of the extended page tables. SDM vol. 3, 29.3.2.
#pragma once

#include "host/types.h"

namespace kvmpp::mmu
{

// Size of what one entry maps: a table of a level holds 512 entries of the level below.
enum class Level : u8 { page_4k = 1, page_2m = 2, page_1g = 3, root = 4 };

constexpr Level below(Level level)
{
	return static_cast<Level>(static_cast<u8>(level) - 1);
}

constexpr unsigned shift_of(Level level)
{
	return page_shift + 9 * (static_cast<u8>(level) - 1);
}

// 4 KiB frames under one entry of the level.
constexpr u64 frames_of(Level level)
{
	return u64{1} << 9 * (static_cast<u8>(level) - 1);
}

constexpr unsigned index_of(Gfn gfn, Level level)
{
	return gfn.number >> 9 * (static_cast<u8>(level) - 1) & 511;
}

enum class MemoryType : u8 { uncacheable = 0, write_combining = 1, write_through = 4, write_back = 6 };

struct Entry {
	u64 raw = 0;

	static constexpr u64 read_bit = bit(0), write_bit = bit(1), execute_bit = bit(2);
	static constexpr u64 permissions = read_bit | write_bit | execute_bit;
	static constexpr u64 ignore_pat_bit = bit(6), leaf_bit = bit(7), accessed_bit = bit(8),
			     dirty_bit = bit(9);
	static constexpr u64 address_mask = bits(51, 12);

	static constexpr Entry table(Hpa page) { return {page.value | permissions}; }

	// The guest's PAT is ignored: kvmpp's memory is ordinary RAM of the host, cached as such.
	static constexpr Entry leaf(
		Level level, Pfn pfn, bool writable, bool executable, bool dirty, MemoryType type)
	{
		return {pfn.address().value | read_bit | (executable ? execute_bit : 0) |
			(writable ? write_bit : 0) | (dirty ? dirty_bit : 0) |
			u64{static_cast<u8>(type)} << 3 | ignore_pat_bit |
			(level == Level::page_4k ? 0 : leaf_bit)};
	}

	constexpr bool present() const { return raw & permissions; }
	constexpr bool is_leaf(Level level) const { return level == Level::page_4k || raw & leaf_bit; }
	constexpr bool writable() const { return raw & write_bit; }
	constexpr bool executable() const { return raw & execute_bit; }
	constexpr bool accessed() const { return raw & accessed_bit; }
	constexpr Hpa address() const { return {raw & address_mask}; }
	constexpr Pfn pfn() const { return frame_of(address()); }

	constexpr bool operator==(const Entry &) const = default;
};

} // namespace kvmpp::mmu
