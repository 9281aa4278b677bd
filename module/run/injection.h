// SPDX-License-Identifier: GPL-2.0-only
// Delivering events to the guest: which one goes with the next entry, and what became of it.
// SDM vol. 3, 6.9 (priorities), 27.6 (injection), 25.9.3 (what an exit interrupted).
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// Before an entry, interrupts on: moves what was posted to the vCPU into its own state, and picks the
// event for the next entry (events.next). What cannot be delivered yet asks for a window.
void choose_event(Vcpu &vcpu, vmx::Current vmcs);
// Interrupts off, nothing can stop the entry any more: puts the chosen event into the VMCS.
void write_event(Vcpu &vcpu, vmx::Current vmcs);
// After an exit: an event whose delivery the exit interrupted has to be delivered again.
void recover_event(Vcpu &vcpu, vmx::Current vmcs, vmx::ExitReason reason);

// The PIC is the VMM's, which hands its interrupts over by KVM_INTERRUPT.
bool pic_in_vmm(const Vcpu &vcpu);
// RFLAGS.IF is set and nothing blocks interrupts for an instruction.
bool interrupts_allowed(Vcpu &vcpu, vmx::Current vmcs);
// Something can be delivered to a halted vCPU.
bool can_wake(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
