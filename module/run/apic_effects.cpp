// SPDX-License-Identifier: GPL-2.0-only
#include "run/apic_effects.h"

#include "machine/vm.h"

namespace kvmpp::run
{

bool apply_apic_effect(machine::Vcpu &vcpu, const x86::Lapic::Effect &effect)
{
	using Kind = x86::Lapic::Effect::Kind;
	machine::Vm &vm = vcpu.vm;
	switch (effect.kind) {
	case Kind::none: return true;
	case Kind::identity:
		vm.note_apic_id(vcpu);
		// It may have been switched on, and takes interrupts from now on.
		if (vcpu.async_faults.enabled())
			vcpu.mailbox.request(machine::Request::async_fault);
		return true;
	case Kind::fault: return false;
	case Kind::send: vm.interrupts.deliver(effect.message, &vcpu); return true;
	case Kind::eoi:
		if (vm.interrupts.end_of_interrupt(vcpu, effect.eoi))
			vcpu.io.ended_vector = effect.eoi.vector;
		return true;
	}
	__builtin_unreachable();
}

} // namespace kvmpp::run
