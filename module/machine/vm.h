// SPDX-License-Identifier: GPL-2.0-only
// One virtual machine: the owner of its memory, its devices and its vCPUs. It lives until the last
// descriptor of it or of one of its vCPUs is closed.
#pragma once

#include <array>
#include <atomic>
#include <linux/kvm.h>
#include "machine/apic_access.h"
#include "machine/clock.h"
#include "machine/coalesced.h"
#include "machine/hypervisor.h"
#include "machine/io_bus.h"
#include "machine/ioeventfd.h"
#include "machine/interrupts.h"
#include "machine/irqfd.h"
#include "machine/memory_map.h"
#include "machine/msr_filter.h"
#include "machine/options.h"
#include "machine/vcpu_set.h"
#include "mmu/ept.h"
#include "mmu/invalidation.h"

namespace kvmpp::machine
{

class Vm final : host::Pinned, MemoryMap::Listener, mmu::TlbFlusher {
    public:
	// The calling thread's address space becomes the VM's. EBUSY: another hypervisor holds VT-x;
	// ENOMEM. One reference belongs to the caller.
	static Result<Vm *> create(Hypervisor &hypervisor);

	void get() { references_.fetch_add(1, std::memory_order_relaxed); }
	// Destroys the VM with the last reference. May sleep.
	void put();

	Hypervisor &hypervisor;
	// A test wants every instruction executed in software.
	const bool emulated = kvmpp_force_emulation();
	// Whether the run loop has to ask what a guest's state wants.
	const bool may_need_software = emulated || !hypervisor.unrestricted();
	Readers readers;
	MemoryMap memory_map;
	IoBus ports, mmio;
	IoEventFds ioeventfds{ports, mmio};
	CoalescedWrites coalesced;
	Clock clock;
	VcpuSet vcpus;
	Interrupts interrupts; // goes before the vCPUs that its timers deliver to
	IrqFds irqfds{interrupts};
	VmStatistics statistics;

	// Whether the caller runs in the VM's address space; every ioctl asks.
	bool is_current_mm() const { return kvmpp_mm_is_current(&mm_watch_); }

	// KVM_CREATE_VCPU: a descriptor for a new vCPU. EINVAL: id; EEXIST; ENOMEM, EMFILE, ENFILE.
	Result<long> create_vcpu(u64 id);
	// KVM_CAP_MAX_VCPU_ID: ids are below that. EINVAL: vCPUs exist, it was set already, or 0 or too large.
	Result<> set_id_limit(u64 limit);
	// KVM_CAP_HALT_POLL: this in place of the module's parameter, ns. EINVAL: more than 32 bits.
	Result<> set_halt_poll_limit(u64 limit);
	std::optional<u64> halt_poll_limit() const
	{
		const u64 limit = halt_poll_limit_.load(std::memory_order_relaxed);
		return limit == unlimited ? std::nullopt : std::optional{limit};
	}
	// KVM_SET_BOOT_CPU_ID. EBUSY: vCPUs exist; EINVAL: no id of a vCPU.
	Result<> set_bsp(u64 id);

	// KVM_CREATE_IRQCHIP, KVM_CAP_SPLIT_IRQCHIP: before the first vCPU, or EINVAL; else as
	// Interrupts says.
	Result<> create_irqchip();
	Result<> split_irqchip(u64 pins);
	Result<> create_pit(bool speaker);

	// KVM_ENABLE_CAP: change(VmOptions &) of what options() answers from now on.
	template <class Change>
	Result<> change_options(Change &&change)
	{
		host::Mutex::Guard guard{lock_};
		VmOptions changed = options();
		change(changed);
		options_ = changed;
		return {};
	}
	VmOptions options() const { return options_.load(std::memory_order_relaxed); }

	// KVM_X86_SET_MSR_FILTER: in force on every vCPU from its next entry on. Without one every MSR
	// is allowed. x2APIC registers are not subject to it.
	void set_msr_filter(host::Own<MsrFilter> filter, bool active);
	// access: as MsrFilter::allows().
	bool allows_msr(Vcpu &vcpu, u32 index, u32 access) const
	{
		return !options().filters_msrs || filter_allows_msr(vcpu, index, access);
	}

	// KVM_CAP_X2APIC_API. EINVAL: flags that are not.
	Result<> set_x2apic_api(u64 flags);
	// IDs in MSIs and in the state of local APICs have 32 bits.
	bool wide_apic_ids() const { return wide_apic_ids_.load(std::memory_order_relaxed); }
	// Some vCPU has another xAPIC ID than it was made with.
	bool apic_ids_changed() const { return apic_ids_changed_.load(std::memory_order_relaxed); }
	void note_apic_id(const Vcpu &vcpu);

	// A vCPU touched guest-physical memory that its tables do not map, or not for that.
	enum class Touch : u8 { read, write, fetch };
	enum class Fault : u8 { mapped, no_memory_there, retry, blocked, would_wait };
	// Maps the page, or says that nothing is there (a device, perhaps), or that somebody has to bring the
	// page first and the caller does not want to wait. EFAULT: the VMM's memory is not accessible; EINTR,
	// ENOMEM, EHWPOISON. May sleep.
	Result<Fault> handle_fault(
		Vcpu &vcpu, const ReadSection &section, Gpa address, Touch how, bool wait);

	// KVM_CAP_DIRTY_LOG_RING: each vCPU has a ring of that size. EINVAL: vCPUs exist, it was set already,
	// or as DirtyRing::check_size().
	Result<> use_dirty_rings(u64 bytes);
	u64 dirty_ring_bytes() const { return dirty_ring_bytes_; }
	// KVM_RESET_DIRTY_RINGS: how many entries the VMM had seen; writes to their pages are noted again.
	// EINVAL: there are no rings.
	Result<long> reset_dirty_rings();

	// What the processor translates by in an address space. Those of SMM are made when somebody first
	// asks: most VMs have none. ENOMEM.
	Result<mmu::Ept *> tables(AddressSpace space);
	mmu::Ept &normal_tables() { return ept_; }

	// KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR: pages that the guest does not use, for
	// processors without unrestricted guests. EINVAL: not there, or (identity map) too late.
	Result<> set_tss_address(u64 address);
	Result<> set_identity_map_address(u64 address);

	// Where the guest's accesses to its xAPICs go, for a processor that takes them.
	ApicAccess apic_access;
	// A vCPU must not find that page in its memory: nobody does until every one that said so has taken it
	// back. May sleep.
	void hide_apic_access();
	void show_apic_access();

	// The page directory with which such a processor runs a guest without paging.
	Gpa identity_map() const { return identity_map_; }

	// `by` waits for another vCPU: one that has lost its CPU runs first, each in its turn. May sleep.
	void yield_from(const Vcpu &by);

	u32 bsp() const { return bsp_; }
	s32 creator() const { return creator_; }
	// The TSCs of all vCPUs start together, from zero, with the VM.
	u64 first_tsc() const { return first_tsc_; }
	// The offset that makes this TSC read `value` now. A VMM that restores its vCPUs one by one
	// means one TSC for all: values that differ by the time it took get one offset.
	u64 tsc_offset_for(const GuestTsc &tsc, u64 value);
	// The rate that new vCPUs get. EINVAL: the processor cannot.
	u32 tsc_khz() const { return tsc_khz_.load(std::memory_order_relaxed); }
	Result<> set_tsc_khz(u32 khz);

	// mmu::TlbFlusher: every vCPU that runs leaves its guest before this returns.
	void flush_all() override;
	// Some slot is logged, and the processor logs pages.
	bool logs_pages() const { return logs_pages_; }
	void request_all(Request what);

	int invalidate_begin(Hva start, Hva end, bool may_block);
	void invalidate_end();
	bool young(Hva start, Hva end, bool clear);

	// What cannot fail is made from what could.
	struct Parts {
		host::Own<SlotTable> slots, smm_slots;
		host::Own<IoTable> ports, mmio;
		host::Own<RoutingTable> routes;
		host::Own<MsrFilter> msr_filter;
		host::Page coalesced, ept_root;
		host::Page identity; // without unrestricted guests
		host::Page apic_access; // with a processor that takes accesses to it
	};
	Vm(Hypervisor &hypervisor, Parts parts);
	~Vm();

    private:
	static mmu::Ept::Features ept_features(Hypervisor &hypervisor);
	Result<Fault> map_identity(Vcpu &vcpu);
	Result<Fault> map_apic_access(Vcpu &vcpu);
	Result<Fault> try_map(Vcpu &vcpu, const ReadSection &section, Gpa address, Touch how, bool wait);
	mmu::Level level_for(const MemorySlot &slot, Gfn gfn, Touch how) const;
	// nullptr: there are none yet, so nothing is mapped.
	mmu::Ept *existing_tables(AddressSpace space)
	{
		return space == AddressSpace::normal ? &ept_ : smm_ept_.load(std::memory_order_acquire);
	}
	void slot_added(const MemorySlot &slot) override;
	bool take_out_all();
	void log_pages(bool on) override;
	void collect_written() override;
	void slot_removed(const MemorySlot &slot) override;
	void protect(AddressSpace space, Gfn start, Gfn end) override;
	bool filter_allows_msr(Vcpu &vcpu, u32 index, u32 access) const;
	void protect_masked(AddressSpace space, Gfn first, u64 mask) override;
	void flush_protected() override { flush_all(); }
	void unmap(mmu::Ept &ept, Gfn start, Gfn end, bool may_yield);
	void unmap_apic_access(AddressSpace space);
	template <class Use>
	void for_each_overlap(Hva start, Hva end, Use &&use);

	std::atomic<u32> references_{1};
	void *debugfs_ = nullptr;
	kvmpp_counters counters_ = statistics.counters();
	const u64 first_tsc_ = kvmpp_tsc();
	host::Locked<std::optional<u64>, host::LockClass::restored_tsc> restored_tsc_offset_;
	std::atomic<u32> tsc_khz_{kvmpp_tsc_khz()};
	const s32 creator_ = kvmpp_process_id();
	const bool small_code_pages_ = hypervisor.engine().mitigations() & KVMPP_SMALL_CODE_PAGES;
	bool holds_engine_ = false, watches_mm_ = false, announced_ = false;

	void show_in_debugfs(u64 number);
	void show_in_debugfs(const Vcpu &vcpu);

	host::Mutex lock_{host::LockClass::vm}; // creation of vCPUs and devices
	std::atomic<u32> yielded_to_{0}; // the last one, by its place among the vCPUs
	u64 id_limit_ = VcpuSet::max_id;
	u64 dirty_ring_bytes_ = 0;
	static constexpr u64 unlimited = ~u64{0};
	std::atomic<u64> halt_poll_limit_{unlimited};
	u32 bsp_ = 0;
	// Of all the tables, so that one look at the invalidations serves whichever a fault maps in.
	host::RwLock tables_lock_{host::LockClass::ept};
	mmu::Ept ept_;
	std::atomic<mmu::Ept *> smm_ept_{nullptr};
	const host::Page identity_;
	static constexpr u64 default_identity_map = 0xfffbc000;
	Gpa identity_map_{default_identity_map};
	mmu::Invalidations invalidations_; // under the tables' lock
	Reader notifier_reader_;
	kvmpp_mm_watch mm_watch_;
	std::atomic<VmOptions> options_{};
	Published<MsrFilter> msr_filter_;
	std::atomic<bool> wide_apic_ids_{false}, apic_ids_changed_{false}, logs_pages_{false};
};

} // namespace kvmpp::machine
