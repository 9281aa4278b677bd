// SPDX-License-Identifier: GPL-2.0-only
// Which pages were written, to the VMM and back: the dirty bits of slots, or the vCPUs' rings.
//
// A write is never lost. A fault makes the page writable and then sets its bit; here the bit is taken and
// then the page protected, and the TLBs are flushed before the VMM reads its memory. So a page that is
// writable has its bit set, or a fault is about to set it; and a write that a taken bit stands for is in
// memory before the VMM looks.
//
// Where the processor logs pages, read "dirty" for writable and "cleaned" for protected. A page that is dirty
// has its bit set, or is in the log of a vCPU, which nobody throws away: it is emptied at the vCPU's next exit.
#include <algorithm>
#include "host/user_memory.h"
#include "machine/memory_map.h"

namespace kvmpp::machine
{

Result<host::Own<DirtyBitmap>> DirtyBitmap::create(u64 pages, bool all_set)
{
	auto words = TRY(host::Array<u64>::create((pages + 63) / 64));
	if (all_set)
		std::fill(words.begin(), words.end(), ~u64{0});
	if (all_set && pages % 64)
		words[words.size() - 1] = bit(pages % 64) - 1;
	return host::make<DirtyBitmap>(std::move(words));
}

Result<> MemoryMap::get_dirty_log(u32 id, Hva bitmap)
{
	host::Mutex::Guard guard{lock_};
	if (rings_)
		return fail(ENXIO);
	const MemorySlot &slot = *TRY(find_logged(id));
	const usize words = slot.dirty->words();
	// The whole snapshot is taken before the VMM's memory is touched: copying may fail half-way.
	auto snapshot = TRY(host::Array<u64>::create(words));
	listener_.collect_written();
	bool any = false;
	for (usize i = 0; i < words; ++i) {
		if (manual_) {
			snapshot[i] = slot.dirty->peek(i);
			continue;
		}
		snapshot[i] = slot.dirty->take(i, ~u64{0});
		if (snapshot[i]) {
			listener_.protect_masked(slot.space, slot.base + i * 64, snapshot[i]);
			any = true;
		}
	}
	if (any)
		listener_.flush_protected();
	return host::user_write(bitmap, snapshot.data(), words * sizeof(u64));
}

Result<> MemoryMap::clear_dirty_log(const kvm_clear_dirty_log &request)
{
	host::Mutex::Guard guard{lock_};
	if (rings_)
		return fail(ENXIO);
	if (request.first_page % 64)
		return fail(EINVAL);
	const MemorySlot &slot = *TRY(find_logged(request.slot));
	const u64 first = request.first_page, count = request.num_pages;
	if (first > slot.frames || count > slot.frames - first)
		return fail(EINVAL);
	// Whole words, but for the end of the slot.
	if (count % 64 && first + count != slot.frames)
		return fail(EINVAL);

	const usize words = (count + 63) / 64;
	auto wanted = TRY(host::Array<u64>::create(words));
	TRY(host::user_read(wanted.data(), Hva{reinterpret_cast<u64>(request.dirty_bitmap)},
		words * sizeof(u64)));
	bool any = false;
	for (usize i = 0; i < words; ++i) {
		const usize word = first / 64 + i;
		const u64 taken = slot.dirty->take(word, wanted[i]);
		if (taken) {
			listener_.protect_masked(slot.space, slot.base + word * 64, taken);
			any = true;
		}
	}
	if (any)
		listener_.flush_protected();
	return {};
}

Result<> MemoryMap::set_manual_protect(u64 flags)
{
	constexpr u64 known = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	// All set at the start makes sense only to a VMM that clears by itself.
	const bool initially_alone =
		flags & KVM_DIRTY_LOG_INITIALLY_SET && !(flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	if (flags & ~known || initially_alone)
		return fail(EINVAL);
	host::Mutex::Guard guard{lock_};
	manual_ = flags;
	return {};
}

void MemoryMap::use_rings()
{
	host::Mutex::Guard guard{lock_};
	rings_ = true;
}

u32 MemoryMap::reset_ring(DirtyRing &ring)
{
	host::Mutex::Guard guard{lock_};
	// Guests mostly write one page after another: 64 of them are protected at once.
	u32 slot = 0;
	u64 word = 0, mask = 0;
	const u32 count = ring.harvest([&](u32 next_slot, u64 offset) {
		if (next_slot != slot || offset / 64 != word) {
			protect_again(slot, word, mask);
			slot = next_slot;
			word = offset / 64;
			mask = 0;
		}
		mask |= bit(offset % 64);
	});
	protect_again(slot, word, mask);
	return count;
}

// The VMM says which; the slot may be another by now, or gone.
void MemoryMap::protect_again(u32 slot_number, u64 word, u64 mask)
{
	const SlotNumber number{slot_number};
	if (!mask || !number.valid())
		return;
	const MemorySlot *slot = table_of(number.space()).latest().find_id(number.id);
	if (!slot || !slot->logged() || word > (slot->frames - 1) / 64)
		return;
	const u64 left = slot->frames - word * 64;
	if (left < 64)
		mask &= bit(left) - 1;
	listener_.protect_masked(slot->space, slot->base + word * 64, mask);
	kvmpp_cond_resched();
}

} // namespace kvmpp::machine
