// SPDX-License-Identifier: GPL-2.0-only
// The second half of an access that the VMM has served: what happens when KVM_RUN is called again.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// exit_to_user: the access needs the VMM once more.
Result<After> complete_io(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
