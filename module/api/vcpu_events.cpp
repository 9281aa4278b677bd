// SPDX-License-Identifier: GPL-2.0-only
#include <algorithm>
#include "api/vcpu.h"
#include "machine/vm.h"
#include "run/injection.h"
#include "run/resident.h"

namespace kvmpp::api
{
namespace
{

using machine::Delivery;
using machine::MpState;
using machine::VmOptions;
using vmx::EventInfo;
using vmx::EventType;

constexpr bool is_exception(EventType type)
{
	return type == EventType::hardware_exception || type == EventType::software_exception;
}

constexpr bool is_interrupt(EventType type)
{
	return type == EventType::external_interrupt || type == EventType::software_interrupt;
}

// The delivery that was begun or chosen.
const Delivery *under_way(const Vcpu &vcpu)
{
	if (vcpu.events.next)
		return &*vcpu.events.next;
	return vcpu.events.begun ? &*vcpu.events.begun : nullptr;
}

// An exception that has not begun, so that its payload is still to be applied.
void set_pending(Vcpu &vcpu, const kvm_vcpu_events &events)
{
	const auto vector = static_cast<x86::Vector>(events.exception.nr);
	const u64 payload = events.exception_has_payload ? events.exception_payload : 0;
	vcpu.events.exception = x86::Exception{.vector = vector,
		.has_error_code = events.exception.has_error_code != 0,
		.error_code = events.exception.error_code,
		.address = vector == x86::Vector::page_fault && !events.exception_has_payload ? vcpu.cr2
											      : payload};
	if (vector == x86::Vector::debug)
		vcpu.debug.dr6 |= payload & 0xe00f;
}

void get_smm(const Vcpu &vcpu, kvm_vcpu_events &events)
{
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = vcpu.smm.active;
	events.smi.pending = vcpu.events.smi;
	events.smi.smm_inside_nmi = vcpu.smm.inside_nmi;
	events.smi.latched_init = vcpu.smm.latched_init || (vcpu.lapic && vcpu.lapic->init_posted());
}

// ENOMEM, and nothing has changed.
Result<> set_smm(Vcpu &vcpu, vmx::Current vmcs, const kvm_vcpu_events &events)
{
	TRY(vcpu.set_smm(vmcs, events.smi.smm));
	vcpu.smm.inside_nmi = events.smi.smm && events.smi.smm_inside_nmi;
	vcpu.smm.latched_init = false;
	if (!vcpu.lapic)
		return {};
	// Outside SMM nothing holds it up.
	vcpu.lapic->forget_init();
	if (events.smi.latched_init)
		vcpu.lapic->accept({.delivery = x86::Delivery::init});
	return {};
}

} // namespace

Result<> get_events(Vcpu &vcpu, kvm_vcpu_events &events)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	const u32 blocking = vcpu.state.interruptibility(resident.vmcs);
	const Delivery *delivery = under_way(vcpu);

	const VmOptions options = vcpu.vm.options();
	if (vcpu.events.exception) {
		const x86::Exception &exception = *vcpu.events.exception;
		// Without the VMM's consent a pending exception looks like one that is under way.
		events.exception.pending = options.exception_payload;
		events.exception.injected = !options.exception_payload;
		if (options.exception_payload && exception.vector == x86::Vector::page_fault) {
			events.exception_has_payload = true;
			events.exception_payload = exception.address;
		}
		events.exception.nr = static_cast<u8>(vcpu.events.exception->vector);
		events.exception.has_error_code = vcpu.events.exception->has_error_code;
		events.exception.error_code = vcpu.events.exception->error_code;
	} else if (delivery && is_exception(delivery->info.type())) {
		events.exception.injected = true;
		events.exception.nr = delivery->info.vector();
		events.exception.has_error_code = delivery->info.has_error_code();
		events.exception.error_code = delivery->error_code;
	}
	if (delivery && is_interrupt(delivery->info.type())) {
		events.interrupt.injected = true;
		events.interrupt.nr = delivery->info.vector();
		events.interrupt.soft = delivery->info.type() == EventType::software_interrupt;
	} else if (vcpu.events.user_interrupt) {
		events.interrupt.injected = true;
		events.interrupt.nr = *vcpu.events.user_interrupt;
	}
	if (blocking & vmx::blocking::sti)
		events.interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
	if (blocking & vmx::blocking::mov_ss)
		events.interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	events.nmi.injected = delivery && delivery->info.type() == EventType::nmi;
	events.nmi.pending = vcpu.events.nmis;
	events.nmi.masked = (blocking & vmx::blocking::nmi) != 0;
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	get_smm(vcpu, events);
	if (options.exception_payload)
		events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (options.triple_fault_event) {
		events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
		events.triple_fault.pending = vcpu.events.triple_fault;
	}
	return {};
}

Result<> set_events(Vcpu &vcpu, const kvm_vcpu_events &events)
{
	const VmOptions options = vcpu.vm.options();
	const u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
			  KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SMM |
			  (options.exception_payload ? KVM_VCPUEVENT_VALID_PAYLOAD : 0) |
			  (options.triple_fault_event ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0);
	const bool has_payload = events.flags & KVM_VCPUEVENT_VALID_PAYLOAD;
	const bool pending = has_payload && events.exception.pending;
	constexpr u8 nmi_vector = 2;
	if (events.flags & ~known)
		return fail(EINVAL);
	if ((pending && events.exception.injected) || (has_payload && events.exception_has_payload && !pending))
		return fail(EINVAL);
	if ((events.exception.injected || pending) &&
		(events.exception.nr > 31 || events.exception.nr == nmi_vector))
		return fail(EINVAL);

	const bool has_smm = events.flags & KVM_VCPUEVENT_VALID_SMM;
	// A processor that waits for its start-up IPI takes no SMI.
	if (has_smm && (events.smi.smm || events.smi.pending) && vcpu.mp_state == MpState::init_received)
		return fail(EINVAL);

	const auto resident = TRY(run::Resident::on(vcpu.residency));
	if (has_smm)
		TRY(set_smm(vcpu, resident.vmcs, events));
	auto &waiting = vcpu.events;
	const bool triple_fault = vcpu.events.triple_fault;
	const bool smi = has_smm ? events.smi.pending : vcpu.events.smi;
	waiting = {};
	waiting.smi = smi;
	waiting.triple_fault = events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT ? events.triple_fault.pending
									     : triple_fault;
	if (pending)
		set_pending(vcpu, events);
	if (events.exception.injected) {
		const bool software = events.exception.nr == static_cast<u8>(x86::Vector::breakpoint) ||
				      events.exception.nr == static_cast<u8>(x86::Vector::overflow);
		waiting.begun = Delivery{
			.info = EventInfo::of(software ? EventType::software_exception
						       : EventType::hardware_exception,
				events.exception.nr, events.exception.has_error_code),
			.error_code = events.exception.error_code,
			.instruction_length = static_cast<u8>(software ? 1 : 0)};
	} else if (events.interrupt.injected) {
		waiting.begun = Delivery{.info = EventInfo::of(events.interrupt.soft
								       ? EventType::software_interrupt
								       : EventType::external_interrupt,
						 events.interrupt.nr),
			.instruction_length = static_cast<u8>(events.interrupt.soft ? 2 : 0)};
	} else if (events.nmi.injected) {
		waiting.begun = Delivery{.info = EventInfo::of(EventType::nmi, nmi_vector)};
	}
	if (events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		waiting.nmis = std::min<u8>(events.nmi.pending, 2);

	u32 blocking = vcpu.state.interruptibility(resident.vmcs) & ~vmx::blocking::nmi;
	if (events.nmi.masked)
		blocking |= vmx::blocking::nmi;
	if (events.flags & KVM_VCPUEVENT_VALID_SHADOW) {
		blocking &= ~(vmx::blocking::sti | vmx::blocking::mov_ss);
		// Both at once there is not.
		if (events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS)
			blocking |= vmx::blocking::mov_ss;
		else if (events.interrupt.shadow & KVM_X86_SHADOW_INT_STI)
			blocking |= vmx::blocking::sti;
	}
	vcpu.state.set_interruptibility(blocking);
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

void get_mp_state(Vcpu &vcpu, kvm_mp_state &state)
{
	switch (vcpu.mp_state) {
	case MpState::runnable: state.mp_state = KVM_MP_STATE_RUNNABLE; break;
	case MpState::uninitialized: state.mp_state = KVM_MP_STATE_UNINITIALIZED; break;
	case MpState::init_received: state.mp_state = KVM_MP_STATE_INIT_RECEIVED; break;
	case MpState::halted: state.mp_state = KVM_MP_STATE_HALTED; break;
	}
}

Result<> set_mp_state(Vcpu &vcpu, const kvm_mp_state &state)
{
	// The others are states of a processor with a local APIC.
	if (!vcpu.lapic && state.mp_state != KVM_MP_STATE_RUNNABLE)
		return fail(EINVAL);
	// SMM, or the SMI that leads there, holds an INIT up.
	if (state.mp_state == KVM_MP_STATE_INIT_RECEIVED && (vcpu.smm.active || vcpu.events.smi))
		return fail(EINVAL);
	switch (state.mp_state) {
	case KVM_MP_STATE_RUNNABLE: vcpu.mp_state = MpState::runnable; break;
	case KVM_MP_STATE_UNINITIALIZED: vcpu.mp_state = MpState::uninitialized; break;
	case KVM_MP_STATE_INIT_RECEIVED: vcpu.mp_state = MpState::init_received; break;
	case KVM_MP_STATE_HALTED: vcpu.mp_state = MpState::halted; break;
	default: return fail(EINVAL);
	}
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

Result<> queue_interrupt(Vcpu &vcpu, const kvm_interrupt &interrupt)
{
	if (interrupt.irq > 255)
		return fail(EINVAL);
	if (!run::pic_in_vmm(vcpu))
		return fail(ENXIO);
	if (vcpu.lapic && vcpu.events.user_interrupt)
		return fail(EEXIST);
	vcpu.events.user_interrupt = static_cast<u8>(interrupt.irq);
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

} // namespace kvmpp::api
