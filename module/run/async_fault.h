// SPDX-License-Identifier: GPL-2.0-only
// How a guest learns of pages that it need not wait for: machine/async_fault.h.
#pragma once

#include "machine/vm.h"

namespace kvmpp::run
{

using machine::Vcpu;

// After an EPT violation: whether the guest could be told that the page is not there.
bool can_go_on_without(Vcpu &vcpu, vmx::Current vmcs);
// It could, and it would have to wait. True: it will be told; false: it has to wait.
bool go_on_without(Vcpu &vcpu, const machine::ReadSection &section, Gpa address, machine::Vm::Touch how);
// Request::async_fault: the guest hears of one page that is there, if it has acknowledged the last one.
void report_page(Vcpu &vcpu);

} // namespace kvmpp::run
