// SPDX-License-Identifier: GPL-2.0-only
#include "machine/guest_memory.h"

#include <algorithm>

namespace kvmpp::machine
{

// Calls copy(slot, place, offset, bytes) for each piece that lies in one page.
template <class Copy>
Result<> GuestMemory::by_page(Gpa address, usize size, Copy &&copy) const
{
	ReadSection section{reader_};
	const SlotTable &slots = map_.read(section, space_);
	for (usize done = 0; done < size;) {
		const Gpa place = address + done;
		const usize bytes = std::min<usize>(size - done, page_size - place.offset());
		const MemorySlot *slot = slots.find(frame_of(place));
		if (!slot)
			return fail(EFAULT);
		TRY(copy(*slot, place, done, bytes));
		done += bytes;
	}
	return {};
}

Result<> GuestMemory::read(Gpa address, void *data, usize size) const
{
	const auto copy = [data](const MemorySlot &slot, Gpa from, usize offset, usize bytes) {
		return host::user_read(static_cast<u8 *>(data) + offset, slot.hva_of(from), bytes);
	};
	return by_page(address, size, copy);
}

template <auto user_write>
Result<> GuestMemory::write_by(Gpa address, const void *data, usize size) const
{
	const auto copy = [&](const MemorySlot &slot, Gpa to, usize offset, usize bytes) -> Result<> {
		if (slot.read_only() || !slot.may_dirty(ring_))
			return fail(EFAULT);
		TRY(user_write(slot.hva_of(to), static_cast<const u8 *>(data) + offset, bytes));
		slot.mark_dirty(frame_of(to), ring_);
		return {};
	};
	return by_page(address, size, copy);
}

Result<> GuestMemory::write(Gpa address, const void *data, usize size) const
{
	return write_by<host::user_write>(address, data, size);
}

Result<> GuestMemory::write_atomic(Gpa address, const void *data, usize size) const
{
	return write_by<host::user_write_atomic>(address, data, size);
}

bool GuestMemory::is_ram(Gpa address) const
{
	ReadSection section{reader_};
	return find(section, address) != nullptr;
}

bool GuestMemory::is_writable(Gpa address) const
{
	ReadSection section{reader_};
	const MemorySlot *slot = find(section, address);
	return slot && !slot->read_only();
}

x86::Replaced GuestMemory::compare_exchange(Gpa address, unsigned size, u64 &expected, u64 desired) const
{
	ReadSection section{reader_};
	const MemorySlot *slot = find(section, address);
	if (!slot || slot->read_only() || !slot->may_dirty(ring_))
		return x86::Replaced::not_writable;
	switch (kvmpp_user_compare_exchange(slot->hva_of(address).value, size, &expected, desired)) {
	case 0: slot->mark_dirty(frame_of(address), ring_); return x86::Replaced::yes;
	case -EAGAIN: return x86::Replaced::changed_meanwhile;
	default: return x86::Replaced::not_writable;
	}
}

bool GuestMemory::read_entry(Gpa address, unsigned size, u64 &entry) const
{
	entry = 0;
	return read(address, &entry, size).has_value();
}

} // namespace kvmpp::machine
