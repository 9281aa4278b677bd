// SPDX-License-Identifier: GPL-2.0-only
// Writing kvmclock's structures into the guest's memory.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// The vCPU's own page, if the guest has set one. A page that is not RAM is left alone.
void update_clock_page(machine::Vcpu &vcpu);
// Real time at the zero of the clock.
void write_wall_clock(machine::Vcpu &vcpu, Gpa address);

} // namespace kvmpp::run
