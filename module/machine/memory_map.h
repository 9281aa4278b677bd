// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: which guest-physical frames are which part of the VMM's memory, and which of them were
// written. KVM API, KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG.
#pragma once

#include <linux/kvm.h>
#include "host/memory.h"
#include "machine/dirty_bitmap.h"
#include "machine/dirty_ring.h"
#include "machine/published.h"

namespace kvmpp::machine
{

// Slots of different address spaces have nothing to do with each other. A vCPU sees the second one while it
// is in system management mode, and the first one otherwise.
enum class AddressSpace : u8 { normal, smm };
inline constexpr unsigned address_spaces = 2;

// Numbers are below it in each of them.
inline constexpr u32 max_slots = 32764;

struct MemorySlot {
	Gfn base{};
	u64 frames = 0;
	Hva hva{};
	u32 id = 0; // in its address space
	u32 flags = 0;
	AddressSpace space = AddressSpace::normal;
	// Being deleted: nobody maps or accesses it any more, but changes of the VMM's mappings still
	// concern what is left of it in the tables.
	bool leaving = false;
	DirtyLog dirty{}; // while it is logged, and the VM has no rings

	Gfn end() const { return base + frames; }
	bool contains(Gfn gfn) const { return gfn >= base && gfn < end(); }
	Hva hva_of(Gpa address) const { return hva + (address - base.address()); }
	Hva hva_end() const { return hva + frames * page_size; }
	bool read_only() const { return flags & KVM_MEM_READONLY; }
	bool logged() const { return flags & KVM_MEM_LOG_DIRTY_PAGES; }
	// As the VMM gives it, and rings show it.
	u32 number() const { return static_cast<u32>(space) << 16 | id; }
	// A page is about to be written by a vCPU with that ring. False: that could not be noted.
	bool may_dirty(const DirtyRing &ring) const { return !logged() || !ring || ring.has_room(); }
	// It has been, or may be from now on.
	void mark_dirty(Gfn gfn, DirtyRing &ring) const
	{
		if (!logged())
			return;
		if (ring)
			ring.push(number(), gfn - base);
		else
			dirty->set(gfn - base);
	}
};

// The number of a slot as the VMM gives it.
struct SlotNumber {
	explicit constexpr SlotNumber(u32 number) : id{number & 0xffff}, space_number{number >> 16} {}

	u32 id, space_number;
	constexpr bool valid() const { return space_number < address_spaces && id < max_slots; }
	constexpr AddressSpace space() const { return static_cast<AddressSpace>(space_number); }
};

// The slots of an address space, in the order of their frames.
class SlotTable {
    public:
	explicit SlotTable(host::Array<MemorySlot> slots) : slots_{std::move(slots)} {}

	// nullptr: no memory there, or none any more.
	const MemorySlot *find(Gfn gfn) const;
	// The same for what was written before: one that leaves is found, too.
	const MemorySlot *find_written(Gfn gfn) const;
	const MemorySlot *find_id(u32 id) const;
	std::span<const MemorySlot> all() const { return slots_.span(); }

    private:
	host::Array<MemorySlot> slots_;
};

class MemoryMap : host::Pinned {
    public:
	// Who keeps translations of slots; called without a spinlock, and may sleep.
	class Listener {
	    public:
		// Readers find it from now on, whatever was in its place.
		virtual void slot_added(const MemorySlot &slot) = 0;
		// There is a slot that is logged, from before its pages are protected until after the last.
		virtual void log_pages(bool on) = 0;
		// What vCPUs have written so far is marked when this returns.
		virtual void collect_written() = 0;
		// No reader can bring its translations back: they have to go.
		virtual void slot_removed(const MemorySlot &slot) = 0;
		// Writes to these pages of it must be noticed from now on.
		virtual void protect(AddressSpace space, Gfn start, Gfn end) = 0;
		// The same for those whose bits are set, of 64 pages from `first` on, without a flush...
		virtual void protect_masked(AddressSpace space, Gfn first, u64 mask) = 0;
		// ...and the flush for all of them.
		virtual void flush_protected() = 0;

	    protected:
		~Listener() = default;
	};

	static Result<host::Own<SlotTable>> empty_table();
	MemoryMap(host::Own<SlotTable> normal, host::Own<SlotTable> smm, Readers &readers, Listener &listener)
		: readers_{readers}, listener_{listener},
		  tables_{Published<SlotTable>{std::move(normal)}, Published<SlotTable>{std::move(smm)}}
	{
	}

	// Creates, changes, moves or deletes (size 0) one slot; its address space is in bits 31:16 of its
	// number. EINVAL: a field that is not allowed; EEXIST: overlaps another slot; ENOMEM. May sleep.
	// After it returns no vCPU uses the slot as it was before.
	Result<> set(const kvm_userspace_memory_region &region);

	// Copies the slot's dirty bits to the VMM. They start anew unless clearing is manual. EINVAL,
	// ENOENT: no such log; EFAULT.
	Result<> get_dirty_log(u32 slot, Hva bitmap);
	// Manual: forgets the bits that the VMM's bitmap has set, of pages [first, first + count).
	Result<> clear_dirty_log(const kvm_clear_dirty_log &request);
	// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. EINVAL.
	Result<> set_manual_protect(u64 flags);

	// KVM_CAP_DIRTY_LOG_RING, before there are vCPUs: from now on pages are noted in their rings, and the
	// two above fail with ENXIO.
	void use_rings();
	// What the VMM has seen in the ring is protected again, without a flush. The number of entries.
	u32 reset_ring(DirtyRing &ring);

	template <class Section>
	const SlotTable &read(const Section &section, AddressSpace space) const
	{
		return table_of(space).read(section);
	}

    private:
	Result<> check(const kvm_userspace_memory_region &region) const;
	Result<> put(const MemorySlot *found, MemorySlot wanted);
	Result<> change(const MemorySlot *old, MemorySlot wanted);
	void replace(AddressSpace space, host::Own<SlotTable> fresh);
	const Published<SlotTable> &table_of(AddressSpace space) const
	{
		return tables_[static_cast<u8>(space)];
	}
	Result<const MemorySlot *> find_logged(u32 slot_number) const;
	void protect_again(u32 slot_number, u64 word, u64 mask);
	// A ring cannot say so of all pages.
	bool starts_all_set() const { return manual_ & KVM_DIRTY_LOG_INITIALLY_SET && !rings_; }

	Readers &readers_;
	Listener &listener_;
	host::Mutex lock_{host::LockClass::memory_map};
	Published<SlotTable> tables_[address_spaces];
	u64 manual_ = 0; // KVM_DIRTY_LOG_* flags
	bool rings_ = false;
	u32 logged_slots_ = 0;
};

} // namespace kvmpp::machine
