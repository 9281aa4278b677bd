// SPDX-License-Identifier: GPL-2.0-only
// The innermost step of KVM_RUN: everything between "interrupts off" and "the guest has exited".
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// Interrupts off; the VMCS is complete but for what differs at every entry. False: VMLAUNCH or
// VMRESUME failed, and the guest did not run.
bool enter_guest(machine::Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
