// SPDX-License-Identifier: GPL-2.0-only
// A VM's memory: faults bring pages in, changes of the VMM's address space and of the slots take
// them out.
//
// Why a page that was looked up can be mapped safely: the invalidation counter is read before the
// look-up; begin() of an invalidation waits for the table lock, under which the fault checks the
// counter and maps. So a mapping is made either before begin() removes it, or not at all.
#include <algorithm>
#include "host/cpu_mask.h"
#include "host/user_memory.h"
#include "machine/vm.h"

namespace kvmpp::machine
{
namespace
{

using mmu::Level;

// Whether a page of that size lies in the slot, at the same offset in guest and host memory.
bool fits(const MemorySlot &slot, Gfn gfn, Level level)
{
	const u64 frames = mmu::frames_of(level);
	const u64 host_frame = slot.hva.value >> page_shift;
	if ((slot.base.number ^ host_frame) & (frames - 1))
		return false;
	const Gfn first{gfn.number & ~(frames - 1)};
	return first >= slot.base && first + frames <= slot.end();
}

} // namespace

// The largest page that the host's own mapping, which does not change while the table lock is held, and
// the slot have room for.
Level Vm::level_for(const MemorySlot &slot, Gfn gfn, Touch how) const
{
	// Logged pages become dirty one by one; and on some processors a guest that executes from a large
	// page can take the machine down while the page is split (iTLB multihit, CVE-2018-12207).
	const bool small = slot.logged() || (how == Touch::fetch && small_code_pages_);
	if (small)
		return Level::page_4k;
	const unsigned host_shift = kvmpp_user_mapping_shift(slot.hva_of(gfn.address()).value);
	Level level = ept_.largest_level(); // of all tables
	while (level > Level::page_4k && (mmu::shift_of(level) > host_shift || !fits(slot, gfn, level)))
		level = mmu::below(level);
	return level;
}

Result<Vm::Fault> Vm::try_map(
	Vcpu &vcpu, const ReadSection &section, Gpa address, Touch how, bool wait)
{
	const bool write = how == Touch::write;
	const Gfn gfn = frame_of(address);
	const MemorySlot *slot = memory_map.read(section, vcpu.memory.space()).find(gfn);
	// A write to a ROM is a device's.
	if (!slot || (write && slot->read_only()))
		return Fault::no_memory_there;
	// The run loop has it made first.
	if (write && !slot->may_dirty(vcpu.dirty_ring))
		return Fault::retry;

	TRY(vcpu.page_cache.fill());
	const u64 snapshot = invalidations_.snapshot();
	const Hva hva = slot->hva_of(address.page());
	auto found = host::UserPage::get(hva, write, wait);
	if (!found && found.error() == Errno{EAGAIN})
		return Fault::retry;
	if (!found && found.error() == Errno{EBUSY})
		return Fault::would_wait;
	if (!found)
		return std::unexpected{found.error()};
	host::UserPage &page = *found;
	// A page that is logged becomes writable with its first write, and by itself; or it is writable, and
	// the processor logs its first write.
	const bool dirty = write || !slot->logged();
	const bool writable = page.writable() && !slot->read_only() && (dirty || hypervisor.logs_pages());
	if (writable)
		page.will_be_dirty();

	host::RwLock::ReadGuard guard{tables_lock_};
	if (invalidations_.stale(snapshot, hva))
		return Fault::retry;

	for (Level level = level_for(*slot, gfn, how);; level = mmu::below(level)) {
		const u64 inside = gfn.number & (mmu::frames_of(level) - 1);
		const mmu::Mapping mapping{.gfn = gfn - inside,
			.pfn = page.pfn() - inside,
			.level = level,
			.writable = writable,
			.executable = level == Level::page_4k || !small_code_pages_,
			.dirty = writable && dirty,
			.type = page.is_device() ? mmu::MemoryType::uncacheable
						 : mmu::MemoryType::write_back};
		switch (vcpu.tables().map(vcpu.page_cache, mapping)) {
		case mmu::Ept::Installed::done:
			statistics.add(level == Level::page_4k ? VmCounter::mapped_4k
				       : level == Level::page_2m ? VmCounter::mapped_2m
								 : VmCounter::mapped_1g);
			// After the page is writable, so that a writable page is never unmarked for good: see
			// dirty_log.cpp.
			if (write)
				slot->mark_dirty(gfn, vcpu.dirty_ring);
			return Fault::mapped;
		case mmu::Ept::Installed::table_in_the_way: break;
		case mmu::Ept::Installed::page_in_the_way: return Fault::blocked;
		}
	}
}

Result<Vm::Fault> Vm::map_identity(Vcpu &vcpu)
{
	TRY(vcpu.page_cache.fill());
	host::RwLock::ReadGuard guard{tables_lock_};
	vcpu.tables().map(vcpu.page_cache, {.gfn = frame_of(identity_map_),
						   .pfn = frame_of(identity_.physical()),
						   .writable = true});
	return Fault::mapped;
}

Result<Vm::Fault> Vm::handle_fault(
	Vcpu &vcpu, const ReadSection &section, Gpa address, Touch how, bool wait)
{
	for (;;) {
		Fault result = TRY(try_map(vcpu, section, address, how, wait));
		if (result == Fault::no_memory_there && identity_ &&
			frame_of(address) == frame_of(identity_map_))
			return map_identity(vcpu);
		// Not where a ROM is, which is to be read.
		if (result == Fault::no_memory_there && apic_access && vcpu.lapic &&
			frame_of(address) == ApicAccess::frame &&
			!memory_map.read(section, vcpu.memory.space()).find(ApicAccess::frame))
			result = TRY(map_apic_access(vcpu));
		if (result != Fault::blocked)
			return result;
		// A large page is mapped read-only, or without the right to execute, or another page
		// altogether, where this one belongs: it goes. This one comes at once: the walk of the
		// guest's page tables before the next fetch might bring the large page back, for ever.
		host::RwLock::WriteGuard guard{tables_lock_};
		vcpu.tables().unmap(frame_of(address), frame_of(address) + 1);
	}
}

Result<mmu::Ept *> Vm::tables(AddressSpace space)
{
	if (mmu::Ept *found = existing_tables(space))
		return found;
	auto root = TRY(host::Page::create());
	TlbFlusher &flusher = *this;
	const auto features = ept_features(hypervisor);
	auto made = TRY(host::make<mmu::Ept>(std::move(root), features, flusher));
	mmu::Ept *expected = nullptr;
	// Another vCPU may have been faster.
	if (!smm_ept_.compare_exchange_strong(expected, made.get(), std::memory_order_acq_rel))
		return expected;
	return made.release();
}

void Vm::unmap(mmu::Ept &ept, Gfn start, Gfn end, bool may_yield)
{
	while (start < end) {
		{
			host::RwLock::WriteGuard guard{tables_lock_};
			start = ept.unmap(start, end);
		}
		if (may_yield)
			kvmpp_cond_resched();
	}
}

void Vm::protect(AddressSpace space, Gfn start, Gfn end)
{
	mmu::Ept *const ept = existing_tables(space);
	while (ept && start < end) {
		{
			host::RwLock::WriteGuard guard{tables_lock_};
			start = ept->write_protect(start, end);
		}
		kvmpp_cond_resched();
	}
}

void Vm::protect_masked(AddressSpace space, Gfn first, u64 mask)
{
	mmu::Ept *const ept = existing_tables(space);
	host::RwLock::ReadGuard guard{tables_lock_};
	if (ept)
		ept->write_protect_masked(first, mask);
}

void Vm::slot_removed(const MemorySlot &slot)
{
	if (mmu::Ept *const ept = existing_tables(slot.space))
		unmap(*ept, slot.base, slot.end(), true);
}

// Calls use(tables, first frame, end) for each part of a slot that shows a part of [start, end).
template <class Use>
void Vm::for_each_overlap(Hva start, Hva end, Use &&use)
{
	SharedReadSection section{notifier_reader_};
	for (const auto space : {AddressSpace::normal, AddressSpace::smm}) {
		mmu::Ept *const ept = existing_tables(space);
		if (!ept)
			continue; // nothing is mapped
		for (const MemorySlot &slot : memory_map.read(section, space).all()) {
			const Hva first = std::max(start, slot.hva);
			const Hva last = std::min(end, slot.hva_end());
			if (first >= last)
				continue;
			const u64 skip = (first - slot.hva) >> page_shift;
			const u64 stop = (last - slot.hva + page_size - 1) >> page_shift;
			use(*ept, slot.base + skip, slot.base + stop);
		}
	}
}

int Vm::invalidate_begin(Hva start, Hva end, bool may_block)
{
	{
		host::RwLock::WriteGuard guard{tables_lock_};
		invalidations_.begin(start, end);
	}
	statistics.add(VmCounter::invalidations);
	for_each_overlap(start, end,
		[&](mmu::Ept &ept, Gfn first, Gfn last) { unmap(ept, first, last, may_block); });
	return 0;
}

void Vm::invalidate_end()
{
	host::RwLock::WriteGuard guard{tables_lock_};
	invalidations_.end();
}

bool Vm::young(Hva start, Hva end, bool clear)
{
	bool result = false;
	for_each_overlap(start, end, [&](mmu::Ept &ept, Gfn first, Gfn last) {
		host::RwLock::WriteGuard guard{tables_lock_};
		result |= ept.young(first, last, clear);
	});
	return result;
}

Result<> Vm::use_dirty_rings(u64 bytes)
{
	TRY(DirtyRing::check_size(bytes, hypervisor.logs_pages()));
	host::Mutex::Guard guard{lock_};
	if (dirty_ring_bytes_ || vcpus.count() > 0)
		return fail(EINVAL);
	dirty_ring_bytes_ = bytes;
	memory_map.use_rings();
	return {};
}

Result<long> Vm::reset_dirty_rings()
{
	host::Mutex::Guard guard{lock_};
	if (!dirty_ring_bytes_)
		return fail(EINVAL);
	long count = 0;
	vcpus.for_each([&](Vcpu &vcpu) { count += memory_map.reset_ring(vcpu.dirty_ring); });
	if (count)
		flush_all();
	return count;
}

// Those that are in guest mode leave it before this returns.
bool Vm::take_out_all()
{
	bool anybody = false;
	vcpus.for_each([&](Vcpu &vcpu) { anybody |= vcpu.mailbox.cpu_in_guest() >= 0; });
	if (!anybody)
		return false;
	host::CpuMask mask;
	vcpus.for_each([&](Vcpu &vcpu) {
		if (const int cpu = vcpu.mailbox.cpu_in_guest(); cpu >= 0)
			mask.add(cpu);
	});
	kvmpp_cpu_kick_and_wait(mask.words());
	return true;
}

// The others flush before they enter.
void Vm::flush_all()
{
	vcpus.for_each([&](Vcpu &vcpu) { vcpu.mailbox.request(Request::flush_ept); });
	if (take_out_all())
		statistics.add(VmCounter::remote_tlb_flushes);
}

void Vm::log_pages(bool on)
{
	if (!hypervisor.logs_pages())
		return;
	logs_pages_ = on;
	vcpus.for_each([&](Vcpu &vcpu) { vcpu.mailbox.request(Request::page_log); });
	// A page that is written before its vCPU logs would stay dirty unseen.
	take_out_all();
}

// A vCPU that leaves its guest empties its log before it takes an interrupt.
void Vm::collect_written()
{
	if (logs_pages_)
		take_out_all();
}

} // namespace kvmpp::machine

extern "C" {

int kvmpp_mm_invalidate_begin(void *owner, __u64 start, __u64 end, int may_block)
{
	return static_cast<kvmpp::machine::Vm *>(owner)->invalidate_begin({start}, {end}, may_block);
}

void kvmpp_mm_invalidate_end(void *owner, __u64, __u64)
{
	static_cast<kvmpp::machine::Vm *>(owner)->invalidate_end();
}

int kvmpp_mm_young(void *owner, __u64 start, __u64 end, int clear)
{
	return static_cast<kvmpp::machine::Vm *>(owner)->young({start}, {end}, clear);
}
}
