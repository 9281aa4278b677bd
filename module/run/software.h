// SPDX-License-Identifier: GPL-2.0-only
// A guest in a state that the processor cannot enter, because it has no unrestricted guests: real
// mode, and protected mode until the segments are protected mode's. Its instructions are executed,
// and its events delivered, in software until the processor can take over.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// Whether the next entry has to be made in software. Prepares the one that has not.
bool needs_software(Vcpu &vcpu, vmx::Current vmcs);

// Delivers what choose_event() chose and executes a bounded number of instructions.
Result<After> run_in_software(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
