// SPDX-License-Identifier: GPL-2.0-only
// Arbitrary bytes as an instruction, an event or a task switch of an arbitrary guest. What the
// emulator owes its caller, whatever the guest is like, is checked; a breach ends the program.
#pragma once

#include <span>
#include "host/types.h"

namespace kvmpp::x86::emulator::test
{

void try_bytes(std::span<const u8> bytes);

} // namespace kvmpp::x86::emulator::test
