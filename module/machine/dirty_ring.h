// SPDX-License-Identifier: GPL-2.0-only
// The pages that a vCPU has written, in a ring that its VMM reads. KVM API, 8.29, KVM_CAP_DIRTY_LOG_RING.
//
// The entries lie in memory that the VMM may scribble on at any time. Where they begin and end is known here
// alone: by an entry a VMM says no more than that it has seen it, and which page it wants to hear of again.
//
// A write is never lost. Whoever marks a page has written it, or made it writable, before; a reset takes the
// entry out before it protects the page, and the VMM reads the page after that. So a page needs no second
// entry while it has one.
#pragma once

#include <atomic>
#include <linux/kvm.h>
#include "host/lock.h"
#include "host/memory.h"
#include "machine/page_log.h"

namespace kvmpp::machine
{

class DirtyRing : host::Pinned {
    public:
	static constexpr u64 max_bytes = 65536 * sizeof(kvm_dirty_gfn);
	// Entries that are left when the VMM is told that the ring is full: what an instruction that is
	// emulated may write at most, descriptors and page tables with it, and more; and what the processor
	// has logged.
	static constexpr u32 reserve(bool page_log) { return 128 + (page_log ? PageLog::entries : 0); }

	// EINVAL: no power of two, or too small; E2BIG.
	static Result<> check_size(u64 bytes, bool page_log);
	// The VM has rings; before anybody uses this one. ENOMEM.
	Result<> create(u64 bytes, bool page_log);

	explicit operator bool() const { return entries_ != 0; }
	// Of those that the VMM maps: nullptr beyond the end.
	void *page(usize index) const { return index < pages_.size() ? pages_[index].data() : nullptr; }
	usize page_count() const { return pages_.size(); }

	// --- the thread that holds the vCPU's lock; without a ring, never full -------------------

	bool soft_full() const { return used() >= soft_limit_; }
	// A write must not be made that cannot be noted.
	bool has_room() const { return used() < entries_; }
	// There is room. Does not sleep.
	void push(u32 slot, u64 offset);

	// --- the thread that holds the VM's lock --------------------------------------------------

	// Takes out the entries that the VMM has seen, in their order, and calls use(slot, offset) for each.
	template <class Use>
	u32 harvest(Use &&use)
	{
		u32 count = 0, slot;
		u64 offset;
		// No further than what was there at first: the guest may be as fast.
		for (const u32 end = end_.load(std::memory_order_acquire); take(end, slot, offset); ++count)
			use(slot, offset);
		return count;
	}

    private:
	u32 used() const
	{
		return end_.load(std::memory_order_relaxed) - begin_.load(std::memory_order_acquire);
	}
	kvm_dirty_gfn &at(u32 index) const;
	bool take(u32 end, u32 &slot, u64 &offset);

	host::Array<host::Page> pages_;
	u32 entries_ = 0, soft_limit_ = ~u32{0};
	// Both count on for ever; the first belongs to whoever resets, the second to whoever pushes.
	std::atomic<u32> begin_{0}, end_{0};
	u32 last_slot_ = 0;
	u64 last_offset_ = 0;
};

} // namespace kvmpp::machine
