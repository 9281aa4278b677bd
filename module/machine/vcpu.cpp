// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's making, and its registers' power-up and reset values. Modes and control registers:
// vcpu_mode.cpp; life on a CPU: residency.cpp.
#include "machine/vcpu.h"

#include "machine/vm.h"
#include "vmx/instructions.h"
#include "x86/msr.h"

namespace kvmpp::machine
{

namespace field = vmx::field;
namespace msr = x86::msr;
using x86::SegmentName;

Result<SharedPages> SharedPages::create()
{
	SharedPages pages;
	pages.run = TRY(host::Page::create());
	pages.port = TRY(host::Page::create());
	return pages;
}

Vcpu::Vcpu(Vm &machine, u32 number, host::Own<vmx::Vmcs> vmcs, vmx::MsrBitmap bitmap, SharedPages pages)
	: vm{machine}, id{number},
	  residency{machine.hypervisor.engine(), machine.hypervisor.user_return(), std::move(vmcs),
		  x86::callback<&Vcpu::switched_out>(*this)},
	  reader{machine.readers}, memory{machine.memory_map, reader, dirty_ring},
	  paravirtual_memory{machine.memory_map, reader, dirty_ring}, msr_bitmap{std::move(bitmap)},
	  pages_{std::move(pages)}, tables_{&machine.normal_tables()}, vpid_{machine.hypervisor.take_vpid()}
{
}

Vcpu::~Vcpu()
{
	vm.hypervisor.give_vpid(vpid_);
}

Result<host::Own<Vcpu>> Vcpu::create(Vm &vm, u32 id)
{
	const int node = kvmpp_cpu_node(kvmpp_cpu_current());
	auto vmcs = TRY(vm.hypervisor.engine().create_vmcs(node));
	auto bitmap = TRY(vmx::MsrBitmap::create(node));
	auto pages = TRY(SharedPages::create());
	auto vcpu = TRY(host::make<Vcpu>(vm, id, std::move(vmcs), std::move(bitmap), std::move(pages)));
	TRY(vcpu->fpu.create());
	if (vm.dirty_ring_bytes())
		TRY(vcpu->dirty_ring.create(vm.dirty_ring_bytes(), vm.hypervisor.logs_pages()));
	if (vm.hypervisor.logs_pages())
		vcpu->page_log.page = TRY(host::Page::create(node));
	if (vm.interrupts.has_lapics()) {
		vcpu->lapic = TRY(x86::Lapic::create(id, x86::callback<&Vcpu::woken>(*vcpu)));
		vcpu->lapic->reset(vcpu->is_bsp(), vm.options().has_quirk(KVM_X86_QUIRK_LINT0_REENABLED));
	}

	vcpu->follow_msr_filter();

	vcpu->tsc.start(vm.first_tsc());
	TRY(vcpu->set_tsc_khz(0));
	vcpu->reset(true);
	// Others start when the first one says so, if there is an APIC to say it with.
	if (vcpu->lapic && !vcpu->is_bsp())
		vcpu->mp_state = MpState::uninitialized;
	return vcpu;
}

void Vcpu::switched_out()
{
	// Somebody else runs here, perhaps without any interrupt.
	l1d_unsafe = true;
	if (!steal_time.enabled())
		return;
	// In the middle of an instruction that is emulated it still uses translations.
	if (between_instructions)
		steal_time.leave(paravirtual_memory);
	mailbox.request(Request::steal_time);
}

void Vcpu::follow_msr_filter()
{
	const auto forbidden = [this](u32 index, u32 access) { return !vm.allows_msr(*this, index, access); };
	// MSRs that the VMCS or the residency switches need no exit.
	for (const u32 index : {msr::fs_base, msr::gs_base, msr::kernel_gs_base, msr::sysenter_cs,
		     msr::sysenter_esp, msr::sysenter_eip}) {
		msr_bitmap.intercept_reads(index, forbidden(index, KVM_MSR_FILTER_READ));
		msr_bitmap.intercept_writes(index, forbidden(index, KVM_MSR_FILTER_WRITE));
	}
	const bool hides_residency = vm.options().exits_on(KVM_X86_DISABLE_EXITS_CSTATE);
	for (const u32 index : {msr::core_c1_residency, msr::core_c3_residency, msr::core_c6_residency,
		     msr::core_c7_residency})
		msr_bitmap.intercept_reads(index, hides_residency || forbidden(index, KVM_MSR_FILTER_READ));
	msr_bitmap.intercept_reads(msr::tsc, forbidden(msr::tsc, KVM_MSR_FILTER_READ));
	// These are handed out when the guest first uses them.
	msr_bitmap.intercept(msr::spec_ctrl, true);
	msr_bitmap.intercept_writes(msr::pred_cmd, true);
	residency.world().save_spec_ctrl = false;
}

bool Vcpu::is_bsp() const
{
	return id == vm.bsp();
}

void *Vcpu::mmap_page(unsigned long index)
{
	if (index >= dirty_ring_index)
		return dirty_ring.page(index - dirty_ring_index);
	switch (index) {
	case 0: return pages_.run.data();
	case port_page_index: return pages_.port.data();
	case coalesced_page_index: return vm.coalesced.page();
	default: return nullptr;
	}
}

void Vcpu::reset(bool power_up)
{
	constexpr x86::AccessRights code{0x9b}, data{0x93}, ldt{0x82}, tss{0x8b};
	constexpr u64 reset_vector_base = 0xffff0000;

	residency.world().gprs = {};
	const auto *version = cpuid.find(1);
	gpr(x86::Gpr::rdx) = version ? version->eax : 0x600;
	state.set_rip(0xfff0);
	state.set_rsp(0);
	state.set_rflags(0);

	state.set_segment(SegmentName::cs, {0xf000, 0xffff, reset_vector_base, code});
	for (const auto name :
		{SegmentName::ds, SegmentName::es, SegmentName::fs, SegmentName::gs, SegmentName::ss})
		state.set_segment(name, {0, 0xffff, 0, data});
	state.set_segment(SegmentName::ldtr, {0, 0xffff, 0, ldt});
	state.set_segment(SegmentName::tr, {0, 0xffff, 0, tss});
	state.set_gdt({0, 0xffff});
	state.set_idt({0, 0xffff});

	state.set_cr0(X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
	state.set_cr3(0);
	state.set_cr4(0);
	state.set_efer(0);
	state.set_dr7(DebugRegisters::dr7_fixed);
	state.set_interruptibility(0);
	debug = {};
	cr2 = 0;
	events = {};
	io.reset();
	unhalted = false;
	pv_eoi = {};
	async_faults.reset();
	cpuid.follow_cr4(0);
	uses_xsave_ = switches_xcr0_ = false;

	if (power_up) {
		// Branch trace store and precise events are unavailable.
		constexpr u64 misc_enable_reset = bit(11) | bit(12);
		constexpr u64 pat_default = 0x0007040600070406;
		state.set_pat(pat_default);
		state.set_sysenter({});
		residency.set_msrs({});
		set_xcr0(x86::xcr0::x87);
		msrs = {};
		steal_time = {};
		msrs.misc_enable = misc_enable_reset;
		msrs.arch_capabilities = vm.hypervisor.arch_capabilities();
		cr8_ = 0;
		if (!lapic)
			apic_base_ = msr::apic_base_bits::default_address |
				     msr::apic_base_bits::enable |
				     (is_bsp() ? msr::apic_base_bits::bsp : 0);
	}
	mailbox.request(Request::flush_linear);
	mailbox.request(Request::event);
}

void Vcpu::start_up(u8 vector)
{
	auto cs = x86::Segment{static_cast<u16>(vector << 8), 0xffff, u64{vector} << 12, {0x9b}};
	state.set_segment(SegmentName::cs, cs);
	state.set_rip(0);
}

void Vcpu::initialize_vmcs(vmx::Current vmcs)
{
	auto &engine = vm.hypervisor.engine();
	vmx::Controls controls = engine.controls();
	if (!vm.options().exits_on(KVM_X86_DISABLE_EXITS_HLT))
		controls.primary &= ~vmx::primary::hlt_exiting;
	if (!vm.options().exits_on(KVM_X86_DISABLE_EXITS_PAUSE)) {
		controls.primary &= ~vmx::primary::pause_exiting;
		controls.secondary &= ~vmx::secondary::pause_loop_exiting;
	}

	if (!vm.options().exits_on(KVM_X86_DISABLE_EXITS_MWAIT))
		controls.primary &= ~(vmx::primary::mwait_exiting | vmx::primary::monitor_exiting);
	if (!vm.options().exits_on(KVM_X86_DISABLE_EXITS_CSTATE))
		mailbox.request(Request::msr_filter);
	if (!vm.options().exits_on_bus_lock)
		controls.secondary &= ~vmx::secondary::bus_lock_detection;
	if (!vm.options().notifies)
		controls.secondary &= ~vmx::secondary::notify_exiting;
	if (!lapic) {
		controls.primary &= ~vmx::primary::tpr_shadow;
	} else if (controls.primary & vmx::primary::tpr_shadow) {
		controls.primary &= ~(vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting);
		vmcs.write(field::virtual_apic_page, lapic->page());
		if (vm.apic_access)
			vmcs.write(field::apic_access_page, vm.apic_access.physical());
		tpr_threshold.initialize(vmcs, 0);
		mailbox.request(Request::local_apic);
	}

	// Set only while there is a deadline.
	pin_controls.initialize(vmcs, controls.pin & ~vmx::pin::preemption_timer);
	if (lapic && controls.pin & vmx::pin::preemption_timer && !vm.emulated && !vm.may_need_software)
		lapic->let_processor_watch_deadline();
	primary_controls.initialize(vmcs, controls.primary);
	secondary_controls.initialize(
		vmcs, controls.secondary & ~(vmx::secondary::apic_virtualization | vmx::secondary::pml));
	if (page_log.page) {
		vmcs.write(field::page_log, page_log.page.physical());
		mailbox.request(Request::page_log);
	}
	vmcs.write(field::exit_controls, controls.exit);
	state.initialize(vmcs, engine.capabilities(), controls, vm.identity_map());

	exception_bitmap.initialize(vmcs, 0);
	vmcs.write(field::page_fault_code_mask, 0);
	vmcs.write(field::page_fault_code_match, 0);
	vmcs.write(field::cr3_target_count, 0);
	vmcs.write(field::exit_msr_store_count, 0);
	vmcs.write(field::exit_msr_load_count, 0);
	vmcs.write(field::entry_msr_load_count, 0);
	vmcs.write(field::entry_event, {});
	vmcs.write(field::msr_bitmap, msr_bitmap.physical());
	vmcs.write(field::tsc_offset, tsc.raw_offset());
	if (controls.secondary & vmx::secondary::tsc_scaling)
		vmcs.write(field::tsc_multiplier, tsc.factor());
	vmcs.write(field::ept_pointer, tables_->pointer());
	if (controls.secondary & vmx::secondary::vpid)
		vmcs.write(field::vpid, vpid_);
	if (controls.secondary & vmx::secondary::xsaves)
		vmcs.write(field::xss_exiting_bitmap, 0);
	if (controls.secondary & vmx::secondary::notify_exiting)
		vmcs.write(field::notify_window, vm.options().notify_window);
	if (controls.secondary & vmx::secondary::pause_loop_exiting) {
		// TSC ticks between two PAUSEs of one spinning loop, and until it is left.
		vmcs.write(field::ple_gap, 128);
		vmcs.write(field::ple_window, 4096);
	}

	vmcs.write(field::vmcs_link_pointer, ~u64{0});
	vmcs.write(field::guest_debugctl, 0);
	vmcs.write(field::guest_pending_debug, 0);
	vmcs.write(field::guest_activity, 0);

	// TS is set and cleared by the kernel as it likes; a VM exit must not bring it back.
	vmcs.write(field::host_cr0, vmx::instruction::read_cr0() & ~u64{X86_CR0_TS});
	host_cr3.initialize(vmcs, vmx::instruction::read_cr3());
	host_cr4.initialize(vmcs, vmx::instruction::read_cr4());
	vmcs.write(field::host_rip, reinterpret_cast<u64>(&kvmpp_world_exit));
	vmcs_initialized_ = true;
}

} // namespace kvmpp::machine
