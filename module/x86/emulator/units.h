// SPDX-License-Identifier: GPL-2.0-only
// Whether the guest has switched on the part of the processor that an instruction needs.
#pragma once

#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator
{

Outcome<> check_units(Execution &x, rule::Rules rules);

} // namespace kvmpp::x86::emulator
