// SPDX-License-Identifier: GPL-2.0-only
// The walk of a guest's page tables: linear to guest-physical, with the processor's permission
// checks, accessed and dirty bits and page faults. SDM vol. 3, chapter 4.
#pragma once

#include <array>
#include <concepts>
#include <expected>
#include "host/types.h"
#include "x86/registers.h"

namespace kvmpp::x86
{

// The registers that decide how a linear address is translated.
struct Paging {
	u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
	std::array<u64, 4> pdptes{}; // used with PAE paging outside long mode only
	unsigned physical_bits = 52;

	constexpr bool enabled() const { return cr0 & X86_CR0_PG; }
	constexpr bool long_mode() const { return efer & efer::lma; }
	constexpr bool pae() const { return cr4 & X86_CR4_PAE; }
	constexpr bool la57() const { return cr4 & X86_CR4_LA57; }
};

struct PageAccess {
	bool write = false, fetch = false;
	bool user = false;	// CPL 3, and not an access that the processor makes by itself
	bool smap_lifted = false; // explicit supervisor access with RFLAGS.AC set
};

struct Translation {
	Gpa address{};
	u64 page_bytes = page_size; // size of the page it lies in
	bool writable = false;	    // a write by the same privilege would succeed as well
	bool user = false;	    // the page is a user-mode page
};

// Outcome of an atomic change of a table entry.
enum class Replaced : u8 { yes, changed_meanwhile, not_writable };

// Reads of table entries (false: no RAM there), and the atomic setting of their A and D bits.
template <class T>
concept PageTableMemory = requires(T memory, Gpa address, u64 &entry, unsigned size, u64 expected,
	u64 desired) {
	{ memory.read_entry(address, size, entry) } -> std::same_as<bool>;
	{ memory.replace_entry(address, size, expected, desired) } -> std::same_as<Replaced>;
};

namespace paging_entry
{
inline constexpr u64 present = 1 << 0, writable = 1 << 1, user = 1 << 2, accessed = 1 << 5, dirty = 1 << 6,
		     large = 1 << 7;
inline constexpr u64 no_execute = bit(63);
}

// One level of one paging mode.
struct PagingLevel {
	unsigned shift;		// of the linear address bits that index it
	unsigned index_bits;
	bool large_allowed;
};

struct PagingShape {
	unsigned levels;
	unsigned entry_size;
	PagingLevel level[5]; // top first
};

constexpr PagingShape shape_of(const Paging &paging)
{
	if (paging.long_mode() && paging.la57())
		return {5, 8, {{48, 9, false}, {39, 9, false}, {30, 9, true}, {21, 9, true}, {12, 9, false}}};
	if (paging.long_mode())
		return {4, 8, {{39, 9, false}, {30, 9, true}, {21, 9, true}, {12, 9, false}, {}}};
	if (paging.pae())
		return {2, 8, {{21, 9, true}, {12, 9, false}, {}, {}, {}}};
	return {2, 4, {{22, 10, (paging.cr4 & X86_CR4_PSE) != 0}, {12, 10, false}, {}, {}, {}}};
}

// Bits of an entry that must be zero.
constexpr u64 reserved_bits(const Paging &paging, const PagingShape &shape, unsigned shift, bool large)
{
	if (shape.entry_size == 4) {
		// PSE-36: bits 20:13 of a 4 MiB entry are address bits, 21 is reserved.
		return large ? bit(21) : 0;
	}
	u64 reserved = bits(51, 0) & ~bits(paging.physical_bits - 1, 0);
	if (!(paging.efer & efer::nx))
		reserved |= paging_entry::no_execute;
	if (!paging.long_mode())
		reserved |= bits(62, 52);
	if (large)
		reserved |= bits(shift - 1, 13); // 12 is the PAT bit
	else if (shift > 30)
		reserved |= paging_entry::large;
	return reserved;
}

// Physical address of a large page's frame.
constexpr u64 frame_address(const PagingShape &shape, u64 entry, unsigned shift, bool large)
{
	if (shape.entry_size == 4 && large)
		return (entry & bits(31, 22)) | (entry & bits(20, 13)) << 19;
	return entry & bits(shape.entry_size == 4 ? 31 : 51, shift);
}

constexpr std::expected<Translation, Exception> page_fault(Gva address, const Paging &paging,
	const PageAccess &access, u32 code)
{
	// The fetch bit is reported only where fetches can be told apart (SDM vol. 3, 4.7).
	const bool fetch_bit = access.fetch &&
			       ((paging.efer & efer::nx && (paging.pae() || paging.long_mode())) ||
				       paging.cr4 & X86_CR4_SMEP);
	code |= (access.write ? page_fault_code::write : 0) | (access.user ? page_fault_code::user : 0) |
		(fetch_bit ? page_fault_code::fetch : 0);
	return std::unexpected{Exception::page_fault(address.value, code)};
}

// Rights of one page, gathered on the way down.
struct PageRights {
	bool writable = true, user = true, executable = true;
};

constexpr bool permits(const Paging &paging, const PageRights &rights, const PageAccess &access)
{
	if (access.user && !rights.user)
		return false;
	if (access.fetch) {
		if (!rights.executable)
			return false;
		return access.user || !rights.user || !(paging.cr4 & X86_CR4_SMEP);
	}
	if (!access.user && rights.user && paging.cr4 & X86_CR4_SMAP && !access.smap_lifted)
		return false;
	if (access.write && !rights.writable)
		return !access.user && !(paging.cr0 & X86_CR0_WP);
	return true;
}

// How often another processor may change an entry under our eyes before the guest gets a page fault
// to try again by itself.
inline constexpr unsigned replace_attempts = 64;

// Translates one address. A table that is not in RAM reads as not present; tables in ROM are used
// without marking them.
template <PageTableMemory Memory>
constexpr std::expected<Translation, Exception> translate(Memory &&memory, const Paging &paging,
	Gva address, const PageAccess &access)
{
	if (!paging.enabled())
		return Translation{{paging.long_mode() ? address.value : address.value & bits(31, 0)},
			page_size, true, true};

	const PagingShape shape = shape_of(paging);
	const bool pdptes = paging.pae() && !paging.long_mode();
	u64 table = paging.cr3 & (shape.entry_size == 4 ? bits(31, 12) : bits(51, 12));
	if (pdptes) {
		const u64 pdpte = paging.pdptes[address.value >> 30 & 3];
		if (!(pdpte & paging_entry::present))
			return page_fault(address, paging, access, 0);
		table = pdpte & bits(51, 12);
	}

	PageRights rights;
	for (unsigned i = 0; i < shape.levels; ++i) {
		const auto [shift, index_bits, large_allowed] = shape.level[i];
		const u64 index = address.value >> shift & ((u64{1} << index_bits) - 1);
		const Gpa place{table + index * shape.entry_size};
		for (unsigned attempt = 0;; ++attempt) {
			u64 entry = 0;
			if (attempt == replace_attempts || !memory.read_entry(place, shape.entry_size, entry) ||
				!(entry & paging_entry::present))
				return page_fault(address, paging, access, 0);
			const bool last = i + 1 == shape.levels;
			const bool large = !last && large_allowed && entry & paging_entry::large;
			if (entry & reserved_bits(paging, shape, shift, large))
				return page_fault(address, paging, access,
					page_fault_code::present | page_fault_code::reserved);

			PageRights here = rights;
			here.writable &= (entry & paging_entry::writable) != 0;
			here.user &= (entry & paging_entry::user) != 0;
			here.executable &= shape.entry_size == 4 || !(entry & paging_entry::no_execute);
			const bool leaf = last || large;
			if (leaf && !permits(paging, here, access))
				return page_fault(address, paging, access, page_fault_code::present);

			u64 marked = entry | paging_entry::accessed;
			if (leaf && access.write)
				marked |= paging_entry::dirty;
			// Somebody else's change of the entry voids what was checked: look again.
			if (marked != entry && memory.replace_entry(place, shape.entry_size, entry,
						       marked) == Replaced::changed_meanwhile)
				continue;

			rights = here;
			if (!leaf) {
				table = frame_address(shape, entry, page_shift, false);
				break;
			}
			const u64 offset = address.value & (bit(shift) - 1);
			return Translation{{frame_address(shape, entry, shift, large) + offset}, bit(shift),
				permits(paging, rights,
					{true, false, access.user, access.smap_lifted}),
				rights.user};
		}
	}
	__builtin_unreachable();
}

} // namespace kvmpp::x86
