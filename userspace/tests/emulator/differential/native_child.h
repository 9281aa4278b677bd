// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "tests/emulator/differential/state.h"

namespace kvmpp::x86::emulator::differential
{

// Whether programs may read FS.base and GS.base here.
bool can_read_bases();
// Serves one batch for each byte that it receives, and answers with one.
[[noreturn]] void run_child(Batch &batch, int from_parent, int to_parent);

} // namespace kvmpp::x86::emulator::differential
