// SPDX-License-Identifier: GPL-2.0-only
// From an exit's reason to its handler.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// Interrupts on. Handles the exit, or fills kvm_run for the VMM.
Result<After> dispatch(Exit &exit);

// Interrupts still off: NMIs and machine checks that belong to the host.
void serve_host_event(Exit &exit);

// Exits that no guest instruction causes: KVM_EXIT_FAIL_ENTRY, KVM_EXIT_SHUTDOWN,
// KVM_EXIT_INTERNAL_ERROR.
After entry_refused(Vcpu &vcpu, vmx::Current vmcs);
After entry_failed(Exit &exit);
After shut_down(Vcpu &vcpu);
After internal_error(Vcpu &vcpu, u32 suberror, std::span<const u64> data);

// No interrupt waits, and one would be taken: the VMM may queue one (KVM_INTERRUPT).
bool window_open(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
