// SPDX-License-Identifier: GPL-2.0-only
#include "run/software.h"

#include "machine/vm.h"
#include "run/deadline.h"
#include "run/dispatch.h"
#include "run/emulated_guest.h"
#include "run/emulation.h"
#include "run/injection.h"
#include "vmx/segment_checks.h"

namespace kvmpp::run
{
namespace
{

using machine::MpState;
using vmx::EventType;
using x86::emulator::Event;
using x86::emulator::Registers;
using x86::emulator::Stop;

Event::Kind kind_of(EventType type)
{
	switch (type) {
	case EventType::hardware_exception: return Event::Kind::exception;
	case EventType::software_interrupt:
	case EventType::software_exception: return Event::Kind::software_interrupt;
	case EventType::privileged_software_exception: return Event::Kind::privileged_software;
	default: return Event::Kind::external;
	}
}

bool segments_fit(Vcpu &vcpu, vmx::Current vmcs)
{
	vmx::SegmentRegisters segments;
	for (unsigned i = 0; i < x86::segment_count; ++i)
		segments.values[i] = vcpu.state.segment(vmcs, static_cast<x86::SegmentName>(i));
	return vmx::enterable(segments, vcpu.state.rflags(vmcs) & X86_EFLAGS_VM,
		vcpu.state.efer() & x86::efer::lma);
}

// Through the guest's own interrupt table.
Result<After> deliver_in_software(Vcpu &vcpu, vmx::Current vmcs)
{
	auto &events = vcpu.events;
	// Until it has arrived it combines with the exceptions that it meets.
	events.begun = *events.next;
	events.next.reset();
	const machine::Delivery delivery = *events.begun;

	auto &gprs = vcpu.residency.world().gprs;
	gprs[x86::Gpr::rsp] = vcpu.state.rsp(vmcs);
	EmulatedGuest guest{vcpu, vmcs};
	Registers registers{gprs, vcpu.state.rip(vmcs) + delivery.instruction_length, vcpu.state.rflags(vmcs)};
	Event event{.vector = delivery.info.vector(), .kind = kind_of(delivery.info.type()), .error_code = {}};
	if (delivery.info.has_error_code())
		event.error_code = delivery.error_code;
	const u16 old_task = vcpu.state.segment(vmcs, x86::SegmentName::tr).selector;
	const auto outcome = x86::emulator::deliver(guest, registers, event);
	if (const auto error = guest.host_error())
		return std::unexpected{*error};
	if (!outcome && outcome.error() != Stop::exception) {
		// A table or a stack in a device.
		const u64 data[] = {delivery.info.raw, 0, 0, 0};
		return internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, data);
	}
	// An exception comes first, or in its place.
	if (!outcome) {
		if (vcpu.state.segment(vmcs, x86::SegmentName::tr).selector != old_task)
			keep_new_task(vcpu, registers);
		return After::reenter;
	}
	events.begun.reset();
	vcpu.state.set_rip(registers.rip);
	vcpu.state.set_rflags(registers.rflags);
	vcpu.state.set_rsp(gprs[x86::Gpr::rsp]);
	if (delivery.info.type() == EventType::nmi)
		vcpu.state.set_interruptibility(vcpu.state.interruptibility(vmcs) | vmx::blocking::nmi);
	vcpu.statistics.add(machine::VcpuCounter::events_injected);
	return After::reenter;
}

// Something that the run loop has to see first.
bool interrupted(Vcpu &vcpu, vmx::Current vmcs)
{
	return vcpu.mp_state != MpState::runnable || vcpu.events.triple_fault || vcpu.debugger.stepped ||
	       vcpu.dirty_ring.soft_full() || vcpu.mailbox.requested() ||
	       (vcpu.lapic && vcpu.lapic->attention()) || kvmpp_work_pending() || can_wake(vcpu, vmcs);
}

} // namespace

bool needs_software(Vcpu &vcpu, vmx::Current vmcs)
{
	if (vcpu.vm.emulated)
		return true;
	// With unrestricted guests only a new task is here that faulted, until its segments are good.
	if (!vcpu.vm.may_need_software) {
		vcpu.in_software = vcpu.state.cr0(vmcs) & X86_CR0_PE && !segments_fit(vcpu, vmcs);
		return vcpu.in_software;
	}
	const bool was = vcpu.in_software;
	if (was || vcpu.state.mode_may_have_changed()) {
		const u64 cr0 = vcpu.state.cr0(vmcs);
		vcpu.in_software = !(cr0 & X86_CR0_PE) || !segments_fit(vcpu, vmcs);
		// Without paging the processor walks tables of ours (SDM vol. 3, 27.3.1.1): CR3 is not
		// the guest's to see.
		vcpu.primary_controls.set_bits(vmcs,
			vmx::primary::cr3_load_exiting | vmx::primary::cr3_store_exiting,
			!(cr0 & X86_CR0_PG));
	}
	return vcpu.in_software;
}

Result<After> run_in_software(Vcpu &vcpu, vmx::Current vmcs)
{
	// Instructions between two looks at all that a run loop looks at.
	constexpr unsigned batch = 512;
	if (vcpu.events.next)
		return deliver_in_software(vcpu, vmcs);
	look_at_deadline(vcpu);
	for (unsigned i = 0; i < batch; ++i) {
		if (TRY(emulate(vcpu, vmcs)) == After::exit_to_user)
			return After::exit_to_user;
		if (interrupted(vcpu, vmcs) || !needs_software(vcpu, vmcs))
			break;
	}
	return After::reenter;
}

} // namespace kvmpp::run
