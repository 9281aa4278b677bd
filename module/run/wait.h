// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// Waits until something may have changed for a vCPU that does not run: looks for it for a while if it is
// halted, and then sleeps. Returns for a signal, too. EIO and kin: the VMCS could not be had again.
Result<> wait_for_event(machine::Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
