// SPDX-License-Identifier: GPL-2.0-only
#include "mmu/ept.h"

#include <algorithm>
#include <bit>

namespace kvmpp::mmu
{
namespace
{

// How many entries one unmap() looks at before it makes room for others.
constexpr unsigned step_limit = 16384;

Gfn next_boundary(Gfn gfn, Level level)
{
	return {(gfn.number | (frames_of(level) - 1)) + 1};
}

} // namespace

Result<> PageCache::fill()
{
	while (count_ < pages_.size()) {
		pages_[count_] = TRY(host::Page::create());
		++count_;
	}
	return {};
}

Ept::~Ept()
{
	free_tree(root(), Level::root);
}

u64 Ept::pointer() const
{
	constexpr u64 write_back = 6, four_levels = (4 - 1) << 3;
	const u64 accessed_dirty = features_.accessed_dirty ? bit(6) : 0;
	return root_.physical().value | write_back | four_levels | accessed_dirty;
}

Level Ept::largest_level() const
{
	return features_.large_1g ? Level::page_1g : features_.large_2m ? Level::page_2m : Level::page_4k;
}

Ept::Table &Ept::table_at(Entry entry)
{
	return *static_cast<Table *>(host::from_physical(entry.address()));
}

bool Ept::suffices(Entry entry, const Mapping &mapping)
{
	return (entry.writable() || !mapping.writable) && (entry.executable() || !mapping.executable);
}

Ept::Installed Ept::map(PageCache &cache, const Mapping &mapping)
{
	Table *table = &root();
	Level level = Level::root;
	for (; level > mapping.level; level = below(level)) {
		Slot &slot = (*table)[index_of(mapping.gfn, level)];
		Entry entry{slot.load(std::memory_order_acquire)};
		if (!entry.present()) {
			host::Page page = cache.take();
			const Entry fresh = Entry::table(page.physical());
			if (slot.compare_exchange_strong(entry.raw, fresh.raw, std::memory_order_acq_rel)) {
				(void)page.release();
				entry = fresh;
			} else {
				cache.give_back(std::move(page));
			}
		}
		if (entry.is_leaf(level))
			return suffices(entry, mapping) ? Installed::done : Installed::page_in_the_way;
		table = &table_at(entry);
	}

	Slot &slot = (*table)[index_of(mapping.gfn, level)];
	Entry entry{slot.load(std::memory_order_acquire)};
	Entry leaf = Entry::leaf(
		level, mapping.pfn, mapping.writable, mapping.executable, mapping.dirty, mapping.type);
	for (;;) {
		if (entry.present()) {
			if (!entry.is_leaf(level))
				return Installed::table_in_the_way;
			if (entry.pfn() != mapping.pfn)
				return Installed::page_in_the_way;
			// Another CPU was faster; it may have been content with less.
			if (suffices(entry, mapping))
				return Installed::done;
		}
		if (slot.compare_exchange_weak(entry.raw, leaf.raw, std::memory_order_acq_rel))
			return Installed::done;
	}
}

// Takes the tree below a slot out of the tables. False when the batch is full and something is left.
bool Ept::remove_tree(Slot &slot, Level level, Removed &removed)
{
	const Entry entry{slot.load(std::memory_order_relaxed)};
	if (!entry.present())
		return true;
	if (!entry.is_leaf(level)) {
		if (removed.count == Removed::capacity)
			return false;
		Table &table = table_at(entry);
		// Leaves of the lowest tables need no visit: they go with their table.
		if (below(level) > Level::page_4k)
			for (Slot &child : table)
				if (!remove_tree(child, below(level), removed))
					return false;
		if (removed.count == Removed::capacity)
			return false;
		removed.tables[removed.count++] = &table;
	}
	slot.store(0, std::memory_order_release);
	removed.any_leaf = true;
	return true;
}

void Ept::finish(Removed &removed)
{
	if (removed.any_leaf)
		flusher_.flush_all();
	for (unsigned i = 0; i < removed.count; ++i)
		kvmpp_pages_free(removed.tables[i], 0);
	removed.count = 0;
	removed.any_leaf = false;
}

Gfn Ept::unmap(Gfn start, Gfn end)
{
	Removed removed;
	Gfn gfn = start;
	for (unsigned steps = 0; gfn < end && steps < step_limit; ++steps) {
		// Down to the entry that is empty, or lies in the range as a whole, or is a page.
		Table *table = &root();
		Level level = Level::root;
		for (;; level = below(level)) {
			Slot &slot = (*table)[index_of(gfn, level)];
			const Entry entry{slot.load(std::memory_order_relaxed)};
			const Gfn next = next_boundary(gfn, level);
			const bool whole = gfn.number % frames_of(level) == 0 && next <= end;
			if (!entry.present())
				break;
			if (whole || entry.is_leaf(level)) {
				while (!remove_tree(slot, level, removed))
					finish(removed);
				break;
			}
			table = &table_at(entry);
		}
		gfn = next_boundary(gfn, level);
	}
	finish(removed);
	return std::min(gfn, end);
}

// Calls visit(slot, entry, level) for each page, and says where it stopped to make room for others.
template <class Visit>
Gfn Ept::visit_leaves(Gfn start, Gfn end, Visit &&visit)
{
	Gfn gfn = start;
	for (unsigned steps = 0; gfn < end && steps < step_limit; ++steps) {
		Table *table = &root();
		Level level = Level::root;
		for (;; level = below(level)) {
			Slot &slot = (*table)[index_of(gfn, level)];
			const Entry entry{slot.load(std::memory_order_relaxed)};
			if (!entry.present())
				break;
			if (entry.is_leaf(level)) {
				visit(slot, entry, level);
				break;
			}
			table = &table_at(entry);
		}
		gfn = next_boundary(gfn, level);
	}
	return std::min(gfn, end);
}

Gfn Ept::write_protect(Gfn start, Gfn end)
{
	bool changed = false;
	const Gfn stopped = visit_leaves(start, end, [&](Slot &slot, Entry entry, Level level) {
		if (level > Level::page_4k)
			slot.store(0, std::memory_order_relaxed);
		else if (entry.raw & unnoticed_)
			slot.fetch_and(~unnoticed_, std::memory_order_relaxed);
		else
			return;
		changed = true;
	});
	if (changed)
		flusher_.flush_all();
	return stopped;
}

bool Ept::write_protect_masked(Gfn first, u64 mask)
{
	// 64 frames from a multiple of 64 on have one lowest table.
	bool changed = false;
	visit_leaves(first, first + 64, [&](Slot &slot, Entry entry, Level level) {
		if (level > Level::page_4k) {
			if (entry.writable())
				slot.store(0, std::memory_order_relaxed);
			changed |= entry.writable();
		}
	});
	for (; mask; mask &= mask - 1) {
		const Gfn gfn = first + std::countr_zero(mask);
		visit_leaves(gfn, gfn + 1, [&](Slot &slot, Entry entry, Level level) {
			if (level != Level::page_4k || !(entry.raw & unnoticed_))
				return;
			slot.fetch_and(~unnoticed_, std::memory_order_relaxed);
			changed = true;
		});
	}
	return changed;
}

bool Ept::young(Gfn start, Gfn end, bool clear)
{
	bool result = false;
	visit_leaves(start, end, [&](Slot &slot, Entry entry, Level) {
		// Without accessed bits in the processor every mapped page counts as used.
		if (features_.accessed_dirty && !entry.accessed())
			return;
		result = true;
		if (clear && features_.accessed_dirty)
			slot.fetch_and(~Entry::accessed_bit, std::memory_order_relaxed);
	});
	return result;
}

void Ept::free_tree(Table &table, Level level)
{
	for (Slot &slot : table) {
		const Entry entry{slot.load(std::memory_order_relaxed)};
		if (!entry.present() || entry.is_leaf(level))
			continue;
		Table &child = table_at(entry);
		if (below(level) > Level::page_4k)
			free_tree(child, below(level));
		kvmpp_pages_free(&child, 0);
	}
	// The tables of a big guest are many.
	kvmpp_cond_resched();
}

} // namespace kvmpp::mmu
