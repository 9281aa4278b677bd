// SPDX-License-Identifier: GPL-2.0-only
// Pages that the processor notes while the guest runs, for slots that are logged. SDM vol. 3, 29.3.6.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// Whether it notes them, as the VM wants it.
void follow_page_log(Vcpu &vcpu, vmx::Current vmcs);

// Right after an exit, before interrupts are on: whoever takes the vCPU out of its guest finds everything
// marked that it has written there.
void empty_page_log(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
