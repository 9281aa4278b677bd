// SPDX-License-Identifier: GPL-2.0-only
// One virtual processor: its registers, and what waits for it. It belongs to the thread that holds
// its lock, one ioctl at a time; the mailbox and the local APIC are where others reach it.
#pragma once

#include <linux/kvm.h>
#include "host/memory.h"
#include "machine/async_fault.h"
#include "machine/debugger.h"
#include "machine/events.h"
#include "machine/fpu.h"
#include "machine/guest_tsc.h"
#include "machine/halt_polling.h"
#include "machine/guest_memory.h"
#include "machine/io_state.h"
#include "machine/mailbox.h"
#include "machine/msr_values.h"
#include "machine/pv_eoi.h"
#include "machine/residency.h"
#include "machine/smm.h"
#include "machine/statistics.h"
#include "machine/steal_time.h"
#include "machine/task_priority.h"
#include "mmu/ept.h"
#include "vmx/fields.h"
#include "vmx/guest_state.h"
#include "vmx/msr_bitmap.h"
#include "x86/cpuid.h"
#include "x86/devices/lapic.h"
#include "x86/machine_check.h"
#include "x86/xsave.h"

namespace kvmpp::machine
{

class Vm;

struct DebugRegisters {
	static constexpr u64 dr6_fixed = 0xffff0ff0, dr7_fixed = 0x400;
	static constexpr u64 single_step = 1 << 14; // DR6.BS

	std::array<u64, 4> address{};
	u64 dr6 = dr6_fixed;
};

// What the processor does of the local APIC by itself.
enum class ApicHelp : u8 { none, task_priority, delivery };

enum class MpState : u8 { runnable, uninitialized, init_received, halted };

// Pages that the VMM maps from the vCPU's descriptor, by their place in that mapping.
struct SharedPages {
	host::Page run, port;

	static Result<SharedPages> create();
};

class Vcpu : host::Pinned {
    public:
	// What an index of the VMM's mmap shows; nullptr beyond the end.
	static constexpr unsigned mmap_pages = 3;
	static constexpr unsigned port_page_index = 1; // KVM_PIO_PAGE_OFFSET
	static constexpr unsigned coalesced_page_index = KVM_COALESCED_MMIO_PAGE_OFFSET;
	static constexpr unsigned dirty_ring_index = KVM_DIRTY_LOG_PAGE_OFFSET; // those of the ring from here on

	static Result<host::Own<Vcpu>> create(Vm &vm, u32 id);
	~Vcpu();

	Vm &vm;
	const u32 id;
	host::Mutex lock{host::LockClass::vcpu};

	VcpuStatistics statistics;
	Mailbox mailbox;
	host::NamedThread thread; // of the last KVM_RUN
	host::Own<x86::Lapic> lapic; // with an in-kernel irqchip; see lapic.h for who may call what

	// --- the thread that holds the lock ------------------------------------------------------

	Residency residency;
	vmx::GuestState state;
	x86::Cpuid cpuid;
	Events events;
	IoState io;
	MsrValues msrs;
	StealTime steal_time;
	PvEoi pv_eoi;
	AsyncFaults async_faults{mailbox, id};
	HaltPolling halt_polling;
	DebugRegisters debug;
	Debugger debugger;
	x86::MachineCheck machine_check;
	TaskPriority task_priority;
	Fpu fpu;
	mmu::PageCache page_cache;
	Reader reader;
	// The pages that it has written, if the VM has rings.
	DirtyRing dirty_ring;
	PageLog page_log;
	// Through the guest's own eyes: its instructions, its page tables, its state saved by an SMI.
	GuestMemory memory;
	// What a paravirtual interface names, kvmclock for one: as KVM has it always of the normal address space.
	// SMRAM has none of it, and firmware must not find it there.
	GuestMemory paravirtual_memory;
	Smm smm;

	vmx::MsrBitmap msr_bitmap;
	vmx::Shadowed<decltype(vmx::field::pin_controls)> pin_controls;
	vmx::Shadowed<decltype(vmx::field::primary_controls)> primary_controls;
	vmx::Shadowed<decltype(vmx::field::secondary_controls)> secondary_controls;
	vmx::Shadowed<decltype(vmx::field::exception_bitmap)> exception_bitmap;
	vmx::Shadowed<decltype(vmx::field::tpr_threshold)> tpr_threshold;
	vmx::Shadowed<decltype(vmx::field::host_cr3)> host_cr3;
	vmx::Shadowed<decltype(vmx::field::host_cr4)> host_cr4;

	u64 cr2 = 0;
	u64 xcr0 = x86::xcr0::x87;
	GuestTsc tsc;
	MpState mp_state = MpState::runnable;
	ApicHelp apic_help = ApicHelp::none;
	// Its thread may sleep here without anything of the guest's half done.
	bool between_instructions = false;
	bool bus_locked = false; // by the guest, and the VMM wants to know: KVM_RUN_X86_BUS_LOCK
	bool unhalted = false; // KVM_HC_KICK_CPU came before the HLT that it ends
	// The processor cannot enter in the guest's mode: run/software.h.
	bool in_software = false;
	// KVM_SET_SIGNAL_MASK: in force during KVM_RUN.
	std::optional<u64> signal_mask;
	// Code ran since the last entry that may have left secrets in the L1 cache.
	bool l1d_unsafe = true;

	u64 &gpr(x86::Gpr name) { return residency.world().gprs[name]; }
	kvm_run &run() { return *pages_.run.as<kvm_run>(); }
	u8 *port_data() { return static_cast<u8 *>(pages_.port.data()); }
	void *mmap_page(unsigned long index);
	// Whether a page of [first, first + count) of that mapping is the ring's.
	bool shows_dirty_ring(unsigned long first, unsigned long count) const
	{
		return dirty_ring && first < dirty_ring_index + dirty_ring.page_count() && first + count > dirty_ring_index;
	}

	// The tables of the address space that `memory` shows.
	mmu::Ept &tables() { return *tables_; }
	// Enters or leaves system management mode as far as the address space goes. ENOMEM, and nothing has
	// changed; leaving cannot fail.
	Result<> set_smm(vmx::Current vmcs, bool active);

	// Writes what a VMCS holds for life; before the first entry.
	void initialize_vmcs(vmx::Current vmcs);
	bool vmcs_initialized() const { return vmcs_initialized_; }
	u16 vpid() const { return vpid_; }

	// Which MSRs the guest uses without an exit: as the VM's filter allows.
	void follow_msr_filter();

	// Registers after RESET, or after INIT, which keeps some (SDM vol. 3, table 10-1).
	void reset(bool power_up);
	// Start-up IPI: real mode at vector << 12.
	void start_up(u8 vector);

	// Control registers with all that follows from a change. The values are valid.
	void set_cr0(vmx::Current vmcs, u64 value);
	void set_cr4(vmx::Current vmcs, u64 value);
	void set_xcr0(u64 value);
	// XCR0 has to be switched around the guest: it uses XSAVE, with other components than we.
	bool switches_xcr0() const { return switches_xcr0_; }
	// Reads the four PDPTEs at cr3. False: one of them is not valid, and nothing has changed.
	bool load_pdptes(u64 cr3);
	u64 cr8() const { return lapic ? lapic->cr8() : cr8_; }
	void set_cr8(u64 value);
	u64 apic_base() const { return lapic ? lapic->base() : apic_base_; }
	// EINVAL: reserved bits, or a transition that there is not.
	Result<> set_apic_base(u64 value, bool by_vmm);
	// Whether accesses to the APIC's registers are the processor's where it can (machine/apic_access.h). Not
	// while the VMM shows the guest its TPR elsewhere: that word is looked at with each exit.
	bool uses_apic_access() const
	{
		return lapic && lapic->at_default_address() && !task_priority.shared.value;
	}
	// That may have changed.
	void follow_apic_access();

	x86::Paging paging(vmx::Current vmcs);
	x86::Mode mode(vmx::Current vmcs);
	// The guest's features follow. ENOMEM; EINVAL: a guest that has run gets others.
	Result<> set_cpuid(std::span<const kvm_cpuid_entry2> entries, vmx::Current vmcs);

	// Without a quirk of KVM's the guest finds MONITOR in CPUID as IA32_MISC_ENABLE says.
	void follow_misc_enable(x86::Cpuid &features) const;

	// With all that goes by it: the APIC's deadline, kvmclock.
	void set_tsc_offset(u64 value);
	// IA32_TSC_DEADLINE; nothing without a local APIC.
	void set_tsc_deadline(u64 value);
	// KVM_SET_TSC_KHZ; 0 is the VM's default. EINVAL: this processor cannot.
	Result<> set_tsc_khz(u32 khz);

	bool is_bsp() const;
	// KVM_CAP_ENFORCE_PV_FEATURE_CPUID: the guest has only what its CPUID says, as KVM_FEATURE_*.
	bool enforces_paravirtual = false;
	bool has_paravirtual(u32 feature) const
	{
		return !enforces_paravirtual || cpuid.paravirtual_features() >> feature & 1;
	}

	Vcpu(Vm &vm, u32 id, host::Own<vmx::Vmcs> vmcs, vmx::MsrBitmap bitmap, SharedPages pages);

	const kvmpp_counters counters = statistics.counters();

    private:
	void woken() { mailbox.kick(); }
	void switched_out();
	friend class Vm;

	SharedPages pages_;
	mmu::Ept *tables_;
	u16 vpid_ = 0;
	bool vmcs_initialized_ = false;
	bool hides_apic_access_ = false;
	void tsc_changed();
	bool uses_xsave_ = false, switches_xcr0_ = false;
	u64 cr8_ = 0, apic_base_ = 0; // without a local APIC of ours
};

} // namespace kvmpp::machine
