// SPDX-License-Identifier: GPL-2.0-only
#include "machine/memory_map.h"

#include <algorithm>
#include "host/user_memory.h"

namespace kvmpp::machine
{
namespace
{

// Frame numbers of what four levels of tables can translate, and pages that fit KVM's own limit.
constexpr u64 max_frames = u64{1} << (48 - page_shift);
constexpr u64 max_slot_frames = (u64{1} << 31) - 1;

struct ByBase {
	bool operator()(Gfn gfn, const MemorySlot &slot) const { return gfn < slot.base; }
};

// A copy of the table without the slot `id`, and with `added` if it is given.
Result<host::Own<SlotTable>> changed(std::span<const MemorySlot> slots, u32 id, const MemorySlot *added)
{
	const auto is_other = [id](const MemorySlot &slot) { return slot.id != id; };
	const usize kept = std::ranges::count_if(slots, is_other);
	auto result = TRY(host::Array<MemorySlot>::create(kept + (added ? 1 : 0)));

	MemorySlot *out = result.begin();
	bool placed = !added;
	for (const MemorySlot &slot : slots) {
		if (!is_other(slot))
			continue;
		if (!placed && added->base < slot.base) {
			*out++ = *added;
			placed = true;
		}
		*out++ = slot;
	}
	if (!placed)
		*out = *added;
	return host::make<SlotTable>(std::move(result));
}

} // namespace

const MemorySlot *SlotTable::find_written(Gfn gfn) const
{
	const MemorySlot *above = std::upper_bound(slots_.begin(), slots_.end(), gfn, ByBase{});
	if (above == slots_.begin())
		return nullptr;
	const MemorySlot *slot = above - 1;
	return slot->contains(gfn) ? slot : nullptr;
}

const MemorySlot *SlotTable::find(Gfn gfn) const
{
	const MemorySlot *slot = find_written(gfn);
	return slot && !slot->leaving ? slot : nullptr;
}

const MemorySlot *SlotTable::find_id(u32 id) const
{
	for (const MemorySlot &slot : slots_)
		if (slot.id == id)
			return &slot;
	return nullptr;
}

Result<host::Own<SlotTable>> MemoryMap::empty_table()
{
	return host::make<SlotTable>(host::Array<MemorySlot>{});
}

Result<> MemoryMap::check(const kvm_userspace_memory_region &region) const
{
	constexpr u32 known_flags = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;
	if (!SlotNumber{region.slot}.valid() || region.flags & ~known_flags)
		return fail(EINVAL);
	if ((region.memory_size | region.guest_phys_addr | region.userspace_addr) & (page_size - 1))
		return fail(EINVAL);
	u64 end;
	if (__builtin_add_overflow(region.guest_phys_addr, region.memory_size, &end))
		return fail(EINVAL);
	if (region.memory_size == 0)
		return {};
	if (end >> page_shift > max_frames || region.memory_size >> page_shift > max_slot_frames)
		return fail(EINVAL);
	if (!kvmpp_user_range_ok(region.userspace_addr, region.memory_size))
		return fail(EINVAL);
	return {};
}

Result<> MemoryMap::set(const kvm_userspace_memory_region &region)
{
	TRY(check(region));
	host::Mutex::Guard guard{lock_};

	const SlotNumber number{region.slot};
	const SlotTable &table = table_of(number.space()).latest();
	const auto slots = table.all();
	const MemorySlot *found = table.find_id(number.id);
	MemorySlot wanted{.base = frame_of(Gpa{region.guest_phys_addr}),
		.frames = region.memory_size >> page_shift,
		.hva = {region.userspace_addr},
		.id = number.id,
		.flags = region.flags,
		.space = number.space()};

	if (region.memory_size == 0) {
		if (!found)
			return fail(EINVAL);
		return put(found, std::move(wanted));
	}
	// A slot keeps its size, its memory and its being read-only for life.
	if (found && (found->frames != wanted.frames || found->hva != wanted.hva ||
			     (found->flags ^ wanted.flags) & KVM_MEM_READONLY))
		return fail(EINVAL);
	if (found && found->base == wanted.base && found->flags == wanted.flags)
		return {};
	for (const MemorySlot &slot : slots)
		if (slot.id != wanted.id && wanted.base < slot.end() && slot.base < wanted.end())
			return fail(EEXIST);

	return put(found, std::move(wanted));
}

// vCPUs log what they write from before a page of a logged slot is mapped until there is none any more.
Result<> MemoryMap::put(const MemorySlot *found, MemorySlot wanted)
{
	const bool was = found && found->logged(), will = wanted.frames && wanted.logged();
	if (will && !rings_)
		wanted.dirty = was ? found->dirty
				   : DirtyLog{TRY(DirtyBitmap::create(wanted.frames, starts_all_set()))};
	if (will && !was && logged_slots_++ == 0)
		listener_.log_pages(true);
	const Result<> result = change(found, std::move(wanted));
	const bool ended = result ? was && !will : will && !was;
	if (ended && --logged_slots_ == 0)
		listener_.log_pages(false);
	return result;
}

// A slot is new, or becomes another, or none.
Result<> MemoryMap::change(const MemorySlot *old, MemorySlot wanted)
{
	const AddressSpace space = wanted.space;
	const auto slots = table_of(space).latest().all();
	if (!old) {
		replace(space, TRY(changed(slots, wanted.id, &wanted)));
		listener_.slot_added(wanted);
		return {};
	}
	const MemorySlot &found = *old;
	const bool flags_only = wanted.frames && wanted.base == found.base;
	if (flags_only) {
		const bool starts_logging = wanted.logged() && !found.logged();
		const Gfn base = wanted.base, end = wanted.end();
		replace(space, TRY(changed(slots, found.id, &wanted)));
		// Pages that start out dirty are protected as the VMM clears them.
		if (starts_logging && !starts_all_set())
			listener_.protect(space, base, end);
		return {};
	}

	// Everything that can fail comes first. Then nobody finds the old slot any more, then its
	// translations go, then it is forgotten and the new one comes.
	MemorySlot leaving = found;
	leaving.leaving = true;
	auto between = TRY(changed(slots, found.id, &leaving));
	auto after = TRY(changed(slots, found.id, wanted.frames ? &wanted : nullptr));
	replace(space, std::move(between));
	listener_.slot_removed(leaving);
	replace(space, std::move(after));
	if (wanted.frames)
		listener_.slot_added(wanted);
	return {};
}

void MemoryMap::replace(AddressSpace space, host::Own<SlotTable> fresh)
{
	auto old = tables_[static_cast<u8>(space)].replace(std::move(fresh));
	readers_.drain();
}

Result<const MemorySlot *> MemoryMap::find_logged(u32 slot_number) const
{
	const SlotNumber number{slot_number};
	if (!number.valid())
		return fail(EINVAL);
	const MemorySlot *slot = table_of(number.space()).latest().find_id(number.id);
	if (!slot || !slot->dirty)
		return fail(ENOENT);
	return slot;
}

} // namespace kvmpp::machine
