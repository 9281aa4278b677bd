// SPDX-License-Identifier: GPL-2.0-only
// The extended page tables of one address space: guest-physical to host-physical. They hold what faults have
// put there and invalidations have not removed; the truth is in the VMM's address space.
#pragma once

#include <array>
#include <atomic>
#include "host/lock.h"
#include "host/memory.h"
#include "mmu/entry.h"

namespace kvmpp::mmu
{

// Pages for new tables, taken before the lock under which they are needed.
class PageCache {
    public:
	// Enough for one map(): may sleep. ENOMEM.
	Result<> fill();
	host::Page take() { return std::move(pages_[--count_]); }
	void give_back(host::Page page) { pages_[count_++] = std::move(page); }

    private:
	static constexpr unsigned depth = static_cast<u8>(Level::root) - 1;
	std::array<host::Page, depth> pages_{};
	unsigned count_ = 0;
};

// Makes every CPU forget translations of this VM. May be called with the table lock held.
class TlbFlusher {
    public:
	virtual void flush_all() = 0;

    protected:
	~TlbFlusher() = default;
};

struct Mapping {
	Gfn gfn{};
	Pfn pfn{};
	Level level = Level::page_4k; // gfn and pfn are aligned to it
	bool writable = false, executable = true;
	bool dirty = true; // the first write is not to be logged
	MemoryType type = MemoryType::write_back;
};

class Ept : host::Pinned {
    public:
	struct Features {
		bool large_2m = false, large_1g = false, accessed_dirty = false;
		// With accessed_dirty: the processor logs pages whose dirty flag it sets (SDM vol. 3, 29.3.6).
		bool page_log = false;
	};

	explicit Ept(host::Page root, const Features &features, TlbFlusher &flusher)
		: root_{std::move(root)}, features_{features}, flusher_{flusher}
	{
	}
	// Nobody runs on the tables any more.
	~Ept();

	// For the VMCS: four levels of write-back tables (SDM vol. 3, 25.6.11).
	u64 pointer() const;
	Level largest_level() const;

	// "Lock" below is the VM's, for all of its tables: shared by faults, exclusive for unmap().
	enum class Installed {
		done,
		// A table stands where a large page should go, or a large page over what should be
		// mapped smaller. The caller maps with a smaller level, or unmaps first.
		table_in_the_way,
		page_in_the_way,
	};
	// Lock held shared; several may map at once.
	Installed map(PageCache &cache, const Mapping &mapping);

	// Lock held exclusively. Removes every mapping of [start, end), and tables that lie in it as
	// a whole; stops early where it would take long, and returns the frame to go on with. The
	// TLBs are flushed before it returns if they had to be.
	Gfn unmap(Gfn start, Gfn end);

	// Lock held exclusively. The first write to each page of [start, end) is noticed from now on, by a
	// fault, or by the log: pages of 4 KiB are made read-only, or clean; larger ones go, to come back
	// in pages of 4 KiB. Stops early and flushes like unmap().
	Gfn write_protect(Gfn start, Gfn end);
	// The same for those of 64 frames whose bits are set, without a flush. Lock held shared is
	// enough. True: something was writable, or dirty, and a flush is due.
	bool write_protect_masked(Gfn first, u64 mask);

	// Lock held exclusively. Whether a mapping of [start, end) was used; clears the marks if asked.
	bool young(Gfn start, Gfn end, bool clear);

    private:
	using Slot = std::atomic<u64>;
	using Table = std::array<Slot, 512>;

	// Tables taken out of the tree, freed when no TLB knows them any more.
	struct Removed {
		static constexpr unsigned capacity = 32;
		std::array<void *, capacity> tables{};
		unsigned count = 0;
		bool any_leaf = false;
	};

	Table &root() const { return *root_.as<Table>(); }
	static Table &table_at(Entry entry);
	// Whether what is mapped allows all that the new mapping would.
	static bool suffices(Entry entry, const Mapping &mapping);
	static void free_tree(Table &table, Level level);
	bool remove_tree(Slot &slot, Level level, Removed &removed);
	void finish(Removed &removed);
	template <class Visit>
	Gfn visit_leaves(Gfn start, Gfn end, Visit &&visit);

	host::Page root_;
	const Features features_;
	// What lets a page be written unnoticed.
	const u64 unnoticed_ = features_.page_log ? Entry::dirty_bit : Entry::write_bit;
	TlbFlusher &flusher_;
};

} // namespace kvmpp::mmu
