// SPDX-License-Identifier: GPL-2.0-only
// A VM's ioctls that concern interrupt controllers and the timer.
#pragma once

#include "machine/vm.h"

namespace kvmpp::api
{

// -ENOTTY for a request that is none of a VM's.
long vm_irq_ioctl(machine::Vm &vm, unsigned int command, unsigned long argument);

} // namespace kvmpp::api
