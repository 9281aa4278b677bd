// SPDX-License-Identifier: GPL-2.0-only
// The word in guest memory that stands for TPR (KVM_SET_VAPIC_ADDR): TPR in its low byte, then the
// highest vector in service and the highest one requested. May sleep.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// After an exit: the guest may have written TPR there.
void take_task_priority(machine::Vcpu &vcpu);
// Before an entry: what the guest decides by.
void show_task_priority(machine::Vcpu &vcpu);

} // namespace kvmpp::run
