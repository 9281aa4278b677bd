// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>
#include "tests/emulator/differential/form.h"
#include "tests/emulator/differential/state.h"

namespace kvmpp::x86::emulator::differential
{

enum class Compared : u8 { equal, different, undefined };

// Whether both ended alike, but for what is undefined.
Compared compare(const State &state, const Ending &emulated, const Ending &native);
// Everything about a state whose results differ.
std::string describe(const State &state, const Ending &emulated, const Ending &native);

} // namespace kvmpp::x86::emulator::differential
