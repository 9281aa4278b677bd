// SPDX-License-Identifier: GPL-2.0-only
#include "machine/dirty_ring.h"

namespace kvmpp::machine
{
namespace
{

constexpr u32 entries_of_page = page_size / sizeof(kvm_dirty_gfn);

} // namespace

Result<> DirtyRing::check_size(u64 bytes, bool page_log)
{
	const u64 reserved = reserve(page_log) * sizeof(kvm_dirty_gfn);
	if (bytes & (bytes - 1) || bytes < page_size || bytes <= reserved)
		return fail(EINVAL);
	return bytes > max_bytes ? fail(E2BIG) : Result<>{};
}

Result<> DirtyRing::create(u64 bytes, bool page_log)
{
	pages_ = TRY(host::Array<host::Page>::create(bytes / page_size));
	for (host::Page &page : pages_)
		page = TRY(host::Page::create());
	entries_ = static_cast<u32>(bytes / sizeof(kvm_dirty_gfn));
	soft_limit_ = entries_ - reserve(page_log);
	return {};
}

kvm_dirty_gfn &DirtyRing::at(u32 index) const
{
	const u32 place = index % entries_;
	auto *page = static_cast<kvm_dirty_gfn *>(pages_[place / entries_of_page].data());
	return page[place % entries_of_page];
}

void DirtyRing::push(u32 slot, u64 offset)
{
	const u32 end = end_.load(std::memory_order_relaxed);
	// What was written is in memory before this looks whether the last entry is still there; it pairs
	// with take().
	if (begin_.fetch_add(0) != end && slot == last_slot_ && offset == last_offset_)
		return;
	last_slot_ = slot;
	last_offset_ = offset;
	kvm_dirty_gfn &entry = at(end);
	__atomic_store_n(&entry.slot, slot, __ATOMIC_RELAXED);
	__atomic_store_n(&entry.offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&entry.flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	end_.store(end + 1, std::memory_order_release);
}

bool DirtyRing::take(u32 end, u32 &slot, u64 &offset)
{
	const u32 begin = begin_.load(std::memory_order_relaxed);
	if (begin == end)
		return false;
	kvm_dirty_gfn &entry = at(begin);
	if (!(__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET))
		return false;
	slot = __atomic_load_n(&entry.slot, __ATOMIC_RELAXED);
	offset = __atomic_load_n(&entry.offset, __ATOMIC_RELAXED);
	// Free first, then anybody's.
	__atomic_store_n(&entry.flags, 0, __ATOMIC_RELEASE);
	begin_.exchange(begin + 1);
	return true;
}

} // namespace kvmpp::machine
