// SPDX-License-Identifier: GPL-2.0-only
// The processor's help with the local APIC (SDM vol. 3, chapter 30), for a vCPU that has one of ours. The
// registers lie in the virtual-APIC page in any case, so what the guest does without an exit is seen here,
// and the other way round.
//
// With a TPR shadow the guest reads and writes CR8 without an exit, unless it lets an interrupt in. In xAPIC
// mode its accesses to the registers (machine/apic_access.h) exit with the register's name, those to TPR not
// at all; with APIC-register virtualization the processor reads nearly all by itself, and exits after a write.
// With virtual-interrupt delivery it takes interrupts from IRR and ends them, and in x2APIC mode TPR, EOI, self
// IPIs and nearly all reads need no exit. Interrupts of the PIC are injected as ever.
#pragma once

#include "machine/vm.h"
#include "run/exit.h"

namespace kvmpp::run
{

// Request::local_apic: the APIC's mode, its features or the I/O APIC's vectors have changed, or a debugger
// keeps interrupts away.
void follow_local_apic(Vcpu &vcpu, vmx::Current vmcs);

// Whether interrupts of the local APIC reach the guest without an injection.
inline bool processor_delivers(const Vcpu &vcpu)
{
	return vcpu.apic_help == machine::ApicHelp::delivery && !vcpu.in_software;
}

// Before an entry: what waits in the local APIC.
inline void show_pending(Vcpu &vcpu, vmx::Current vmcs)
{
	switch (vcpu.apic_help) {
	case machine::ApicHelp::none: return;
	case machine::ApicHelp::delivery:
		if (!vcpu.in_software && vcpu.lapic->take_changed())
			vmcs.write(vmx::field::guest_interrupt_status,
				{.requesting = vcpu.lapic->highest_requested(),
					.in_service = vcpu.lapic->highest_in_service()});
		return;
	case machine::ApicHelp::task_priority: {
		// An exit when TPR falls below what it keeps away.
		const u8 pending = vcpu.lapic->highest_requested() >> 4;
		vcpu.tpr_threshold.set(vmcs, pending <= vcpu.lapic->cr8() ? pending : 0);
		return;
	}
	}
}

} // namespace kvmpp::run
