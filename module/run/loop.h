// SPDX-License-Identifier: GPL-2.0-only
// KVM_RUN: the guest runs until the VMM has something to do.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// The caller holds the vCPU's lock. Fills kvm_run for an exit to the VMM. EINTR: a signal is pending,
// or immediate_exit was set; EFAULT and kin: the VMM's memory failed under a guest's access.
Result<> run(machine::Vcpu &vcpu);

} // namespace kvmpp::run
