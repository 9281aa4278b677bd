// SPDX-License-Identifier: GPL-2.0-only
// Port accesses that the VMM serves.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// Fills kvm_run for KVM_EXIT_IO; the data are in the vCPU's port page.
void exit_for_port(Vcpu &vcpu, bool in, u16 port, u8 size, u32 count);
// Puts what a port has answered into AL, AX or EAX.
void set_port_result(Vcpu &vcpu, const void *data, u8 size);

} // namespace kvmpp::run
