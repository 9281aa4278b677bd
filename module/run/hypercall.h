// SPDX-License-Identifier: GPL-2.0-only
// Hypercalls of KVM's paravirtual interface. Linux documentation, virt/kvm/x86/hypercalls.rst.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// Number in RAX, arguments in RBX, RCX, RDX, RSI; the result goes to RAX: -KVM_EPERM for a call that
// there is, from other than CPL 0.
void hypercall(Vcpu &vcpu, vmx::Current vmcs);

} // namespace kvmpp::run
