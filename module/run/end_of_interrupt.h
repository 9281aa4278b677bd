// SPDX-License-Identifier: GPL-2.0-only
// Ends of interrupts in guest memory (machine/pv_eoi.h). May sleep.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// Before an entry: an interrupt of which nobody hears may end there, unless another one waits for that.
void offer_end_of_interrupt(machine::Vcpu &vcpu);
// Afterwards, if it was offered.
void take_end_of_interrupt(machine::Vcpu &vcpu);

} // namespace kvmpp::run
