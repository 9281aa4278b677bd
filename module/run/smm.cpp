// SPDX-License-Identifier: GPL-2.0-only
#include "run/smm.h"

#include "machine/vm.h"
#include "run/debugger.h"
#include "vmx/segment_checks.h"
#include "x86/control_registers.h"

namespace kvmpp::run
{
namespace
{

using machine::MpState;
using x86::SegmentName;
using x86::SmmState;
namespace blocking = vmx::blocking;

x86::smm::Layout layout_of(const Vcpu &vcpu)
{
	return vcpu.cpuid.has(x86::feature::long_mode) ? x86::smm::Layout::wide : x86::smm::Layout::narrow;
}

Gpa area_of(const Vcpu &vcpu)
{
	return Gpa{static_cast<u32>(vcpu.smm.base + x86::smm::area_offset)};
}

SmmState current_state(Vcpu &vcpu, vmx::Current vmcs, bool halted)
{
	auto &state = vcpu.state;
	const u32 blocked = state.interruptibility(vmcs);
	SmmState result{.gprs = vcpu.residency.world().gprs,
		.rip = state.rip(vmcs),
		.rflags = state.rflags(vmcs),
		.cr0 = state.cr0(vmcs),
		.cr3 = state.cr3(vmcs),
		.cr4 = state.cr4(vmcs),
		.efer = state.efer(),
		.dr6 = vcpu.debug.dr6,
		.dr7 = state.dr7(),
		.gdt = state.gdt(vmcs),
		.idt = state.idt(vmcs),
		.base = vcpu.smm.base,
		.halted = halted,
		.after_sti = (blocked & blocking::sti) != 0,
		.after_mov_ss = (blocked & blocking::mov_ss) != 0};
	result.gprs[x86::Gpr::rsp] = state.rsp(vmcs);
	for (unsigned i = 0; i < x86::segment_count; ++i)
		result.segments[i] = state.segment(vmcs, static_cast<SegmentName>(i));
	return result;
}

// SDM vol. 3, table 31-4.
void set_entry_state(Vcpu &vcpu, vmx::Current vmcs)
{
	constexpr x86::AccessRights data{0x8093};
	auto &state = vcpu.state;
	const u32 base = vcpu.smm.base;
	state.set_rflags(0);
	state.set_rip(x86::smm::entry_point);
	vcpu.set_cr0(vmcs, state.cr0(vmcs) & ~u64{X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG});
	vcpu.set_cr4(vmcs, 0);
	state.set_efer(0);
	state.set_dr7(machine::DebugRegisters::dr7_fixed);
	// Until the handler has a table of its own an interrupt shall find none. As KVM.
	state.set_idt({0, 0});
	state.set_segment(SegmentName::cs, {static_cast<u16>(base >> 4), 0xffffffff, base, data});
	for (const auto name :
		{SegmentName::ds, SegmentName::es, SegmentName::fs, SegmentName::gs, SegmentName::ss})
		state.set_segment(name, {0, 0xffffffff, 0, data});
	state.set_interruptibility(blocking::nmi);
}

// Whether the guest can go on from there, on this processor or in software.
bool can_resume(const Vcpu &vcpu, const SmmState &state)
{
	const x86::smm::Limits limits{.cr4_allowed = vcpu.cpuid.cr4_allowed(),
		.efer_allowed = vcpu.cpuid.efer_allowed(),
		.physical_bits = vcpu.cpuid.physical_bits()};
	if (!x86::smm::possible(state, limits))
		return false;
	// Protected mode's may wait in software until they fit: a task switch may have been under way.
	const bool entered_in_real_mode = !(state.cr0 & X86_CR0_PE) && vcpu.vm.hypervisor.unrestricted();
	return !entered_in_real_mode || vmx::enterable_in_real_mode({state.segments});
}

} // namespace

Result<> take_smi(Vcpu &vcpu, vmx::Current vmcs)
{
	auto &events = vcpu.events;
	const bool waits_for_sipi = vcpu.mp_state != MpState::runnable && vcpu.mp_state != MpState::halted;
	if (!smi_allowed(vcpu) || waits_for_sipi || events.triple_fault)
		return {};
	if (events.next || events.exception || events.begun)
		return {};

	const bool halted = vcpu.mp_state == MpState::halted || vcpu.state.halted_inside(vmcs);
	const SmmState state = current_state(vcpu, vmcs, halted);
	const bool in_nmi_handler = vcpu.state.interruptibility(vmcs) & blocking::nmi;
	TRY(vcpu.set_smm(vmcs, true));
	events.smi = false;
	++vcpu.smm.count;
	vcpu.smm.inside_nmi = in_nmi_handler;
	vcpu.mp_state = MpState::runnable;

	x86::smm::Area area;
	x86::smm::store(state, layout_of(vcpu), area);
	// Where there is no RAM it is lost, as on a bus.
	(void)vcpu.memory.write(area_of(vcpu), area.data(), area.size()).has_value();
	set_entry_state(vcpu, vmcs);
	// A single step that is due would be the handler's, which has no interrupt table yet.
	vmcs.write(vmx::field::guest_pending_debug, 0);
	vcpu.exception_bitmap.set(vmcs, intercepted_exceptions(vcpu));
	return {};
}

std::optional<Resumed> leave_smm(Vcpu &vcpu, vmx::Current vmcs)
{
	x86::smm::Area area;
	if (!vcpu.memory.read(area_of(vcpu), area.data(), area.size()))
		return {};
	const SmmState saved = x86::smm::load(area, layout_of(vcpu));
	// Back to the normal address space, whose tables are always there.
	if (!can_resume(vcpu, saved) || !vcpu.set_smm(vmcs, false))
		return {};

	auto &state = vcpu.state;
	const bool was_in_nmi_handler = std::exchange(vcpu.smm.inside_nmi, false);
	vcpu.smm.base = saved.base;
	vcpu.set_cr4(vmcs, saved.cr4);
	state.set_cr3(saved.cr3);
	vcpu.set_cr0(vmcs, saved.cr0);
	state.set_efer(saved.efer);
	vcpu.debug.dr6 = saved.dr6;
	state.set_dr7(saved.dr7);
	state.set_gdt(saved.gdt);
	state.set_idt(saved.idt);
	for (unsigned i = 0; i < x86::segment_count; ++i)
		state.set_segment(static_cast<SegmentName>(i), saved.segments[i]);
	// Asks whether the segments fit before the next entry.
	vcpu.in_software = true;
	vcpu.exception_bitmap.set(vmcs, intercepted_exceptions(vcpu));
	if (std::exchange(vcpu.smm.latched_init, false) && vcpu.lapic)
		vcpu.lapic->accept({.delivery = x86::Delivery::init});
	if (x86::uses_pdptes(saved.cr0, saved.cr4, saved.efer) && !vcpu.load_pdptes(saved.cr3))
		return {};
	return Resumed{.gprs = saved.gprs,
		.rip = saved.rip,
		.rflags = saved.rflags,
		.shadow = saved.after_mov_ss ? blocking::mov_ss
			  : saved.after_sti  ? blocking::sti
					     : 0,
		.unblocks_nmis = !was_in_nmi_handler,
		.halts = saved.halted};
}

} // namespace kvmpp::run
