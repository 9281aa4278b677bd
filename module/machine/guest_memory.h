// SPDX-License-Identifier: GPL-2.0-only
// The guest's RAM as its own vCPU thread reads and writes it: by guest-physical address of one of the VM's
// address spaces, through the VMM's mapping. May sleep for the VMM's pages.
#pragma once

#include "host/user_memory.h"
#include "machine/memory_map.h"
#include "x86/paging.h"

namespace kvmpp::machine
{

class GuestMemory {
    public:
	// ring: of the vCPU to which it belongs.
	GuestMemory(const MemoryMap &map, Reader &reader, DirtyRing &ring)
		: map_{map}, reader_{reader}, ring_{ring}
	{
	}

	AddressSpace space() const { return space_; }
	void set_space(AddressSpace space) { space_ = space; }

	// All of the bytes, or EFAULT: some of them are not in RAM, or the VMM unmapped it.
	Result<> read(Gpa address, void *data, usize size) const;
	Result<> write(Gpa address, const void *data, usize size) const;
	// Does not sleep: EFAULT for a page that is not there just now, too.
	Result<> write_atomic(Gpa address, const void *data, usize size) const;
	template <class T>
	Result<T> read(Gpa address) const
	{
		T value;
		TRY(read(address, &value, sizeof(value)));
		return value;
	}

	// Whether RAM answers a read there, or takes a write.
	bool is_ram(Gpa address) const;
	bool is_writable(Gpa address) const;

	// Of naturally aligned 1, 2, 4 or 8 bytes; `expected` receives what was there.
	x86::Replaced compare_exchange(Gpa address, unsigned size, u64 &expected, u64 desired) const;

	// x86::PageTableMemory
	bool read_entry(Gpa address, unsigned size, u64 &entry) const;
	x86::Replaced replace_entry(Gpa address, unsigned size, u64 expected, u64 desired) const
	{
		return compare_exchange(address, size, expected, desired);
	}

    private:
	template <auto user_write>
	Result<> write_by(Gpa address, const void *data, usize size) const;
	template <class Copy>
	Result<> by_page(Gpa address, usize size, Copy &&copy) const;

	const MemorySlot *find(const ReadSection &section, Gpa address) const
	{
		return map_.read(section, space_).find(frame_of(address));
	}

	const MemoryMap &map_;
	AddressSpace space_ = AddressSpace::normal;
	Reader &reader_;
	DirtyRing &ring_;
};

} // namespace kvmpp::machine
