// SPDX-License-Identifier: GPL-2.0-only
// Guest page tables of any content: the walk ends, and what it says is consistent.
#include <array>
#include "fuzz/input.h"
#include "sim/host.h"
#include "x86/control_registers.h"
#include "x86/paging.h"

using namespace kvmpp;

namespace
{

// A few pages of tables; all other memory is a device.
struct Memory {
	static constexpr u64 pages = 4;
	std::array<u8, pages * page_size> bytes{};

	bool inside(Gpa address, unsigned size) const
	{
		return address.value <= bytes.size() - size;
	}
	bool read_entry(Gpa address, unsigned size, u64 &entry)
	{
		entry = 0;
		if (!inside(address, size))
			return false;
		std::memcpy(&entry, &bytes[address.value], size);
		return true;
	}
	x86::Replaced replace_entry(Gpa address, unsigned size, u64 expected, u64 desired)
	{
		u64 found;
		if (!read_entry(address, size, found))
			return x86::Replaced::not_writable;
		if (found != expected)
			return x86::Replaced::changed_meanwhile;
		std::memcpy(&bytes[address.value], &desired, size);
		return x86::Replaced::yes;
	}
};

// Tables refer to each other: entries in the places that the walk starts from.
void fill(Memory &memory, fuzz::Input &input)
{
	while (input.size() > 4) {
		const u16 place = input.take<u16>() % (Memory::pages * 512);
		const u8 flags = input.take<u8>();
		u64 entry = (input.choose(Memory::pages) << 12) | (flags & 0xe7) | 1;
		if (flags & 8)
			entry = input.take<u64>();
		if (flags & 16)
			entry |= bit(63);
		std::memcpy(&memory.bytes[place * 8], &entry, sizeof(entry));
	}
}

void require(bool condition, const char *what)
{
	if (!condition)
		sim::die("%s", what);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, usize size)
{
	fuzz::Input input{data, size};
	const u8 mode = input.take<u8>(), kind = input.take<u8>();
	x86::Paging paging{.cr0 = X86_CR0_PE | X86_CR0_PG | (mode & 1 ? u64{X86_CR0_WP} : 0),
		.cr3 = input.take<u16>() & 0x3fffu,
		.cr4 = 0,
		.efer = mode & 2 ? x86::efer::nx : 0,
		.pdptes = {},
		.physical_bits = 36u + mode % 17};
	if (mode & 4)
		paging.cr4 |= X86_CR4_PAE;
	if (mode & 8)
		paging.cr4 |= X86_CR4_PSE;
	if (mode & 16)
		paging.cr4 |= X86_CR4_SMEP | X86_CR4_SMAP;
	if (mode & 32) {
		paging.cr4 |= X86_CR4_PAE | (mode & 64 ? u64{X86_CR4_LA57} : 0);
		paging.efer |= x86::efer::lme | x86::efer::lma;
	}
	for (u64 &pdpte : paging.pdptes)
		pdpte = (u64{input.choose(Memory::pages)} << 12) | 1;
	const Gva address{paging.long_mode() ? input.take<u64>() : input.take<u32>()};
	static Memory memory;
	memory.bytes.fill(0);
	fill(memory, input);

	const x86::PageAccess access{.write = (kind & 1) != 0 && !(kind & 2),
		.fetch = (kind & 2) != 0,
		.user = (kind & 4) != 0,
		.smap_lifted = (kind & 8) != 0};
	const auto first = x86::translate(memory, paging, address, access);
	if (!first) {
		require(first.error().vector == x86::Vector::page_fault, "a walk fails otherwise than by #PF");
		require(first.error().address == address.value, "CR2 is not the address");
		require(((first.error().error_code & x86::page_fault_code::user) != 0) == access.user,
			"the error code has another privilege");
		return 0;
	}
	require(first->address.offset() == address.offset(), "the offset in the page changes");
	require(!(first->address.value >> 52), "an address that no processor has");
	// The marks that the walk has set change nothing for the next.
	const auto again = x86::translate(memory, paging, address, access);
	require(again && again->address == first->address, "the same walk ends elsewhere");
	if (!access.fetch) {
		x86::PageAccess write = access;
		write.write = true;
		require(x86::translate(memory, paging, address, write).has_value() == first->writable,
			"what is writable cannot be written");
	}
	return 0;
}
