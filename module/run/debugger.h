// SPDX-License-Identifier: GPL-2.0-only
// A guest under its VMM's debugger. KVM API, KVM_SET_GUEST_DEBUG and KVM_EXIT_DEBUG.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// Which exceptions exit.
u32 intercepted_exceptions(const Vcpu &vcpu);

// Around an entry, while somebody debugs: the debugger's trap flag and breakpoints go in, and out.
void arm_debugger(Vcpu &vcpu, vmx::Current vmcs);
void disarm_debugger(Vcpu &vcpu, vmx::Current vmcs);

// KVM_EXIT_DEBUG. dr6: what this exception says in DR6.
After debug_exit(Vcpu &vcpu, vmx::Current vmcs, x86::Vector vector, u64 dr6);

} // namespace kvmpp::run
