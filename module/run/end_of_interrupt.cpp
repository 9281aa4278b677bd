// SPDX-License-Identifier: GPL-2.0-only
#include "run/end_of_interrupt.h"

#include "machine/vm.h"
#include "run/virtual_apic.h"

namespace kvmpp::run
{

void offer_end_of_interrupt(Vcpu &vcpu)
{
	if (!vcpu.lapic || processor_delivers(vcpu))
		return;
	const u8 vector = vcpu.lapic->highest_in_service();
	if (vector && !vcpu.lapic->highest_requested() && !vcpu.lapic->attention() &&
		!vcpu.vm.interrupts.wants_eoi(*vcpu.lapic, vector))
		vcpu.pv_eoi.offer(vcpu.paravirtual_memory);
}

void take_end_of_interrupt(Vcpu &vcpu)
{
	if (vcpu.pv_eoi.take(vcpu.paravirtual_memory))
		vcpu.lapic->end_of_interrupt();
}

} // namespace kvmpp::run
