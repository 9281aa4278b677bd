// SPDX-License-Identifier: GPL-2.0-only
// Executing a guest's instruction in software, where the processor cannot.
#pragma once

#include "run/exit.h"
#include "x86/emulator/emulator.h"

namespace kvmpp::run
{

// The instruction at RIP. exit_to_user: it waits for the VMM, or nobody knows it
// (KVM_INTERNAL_ERROR_EMULATION). EFAULT: the VMM's memory failed. May sleep.
Result<After> emulate(Vcpu &vcpu, vmx::Current vmcs);

// A switch of tasks is complete before the new task's own faults, which may leave it with segments
// that no entry accepts.
void keep_new_task(Vcpu &vcpu, const x86::emulator::Registers &registers);

// If device writes are queued, fills kvm_run with the first.
Result<After> exit_for_writes(Vcpu &vcpu);

} // namespace kvmpp::run
