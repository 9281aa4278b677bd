// SPDX-License-Identifier: GPL-2.0-only
// What string instructions on memory and on ports have in common.
#pragma once

#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator
{

// RSI or RDI as far as the address size reaches, and its step past `bytes` by RFLAGS.DF.
u64 string_offset(const Execution &x, Gpr name);
void string_advance(Execution &x, Gpr name, unsigned bytes);

// Performs one iteration, or several up to `left` where it can; how many these were.
using StringStep = Outcome<u64>(Execution &x, u64 left);

// The instruction as its prefix says: once, or until RCX is 0 or, if `conditional`, ZF ends it.
Outcome<> repeat(Execution &x, StringStep *step, bool conditional);

} // namespace kvmpp::x86::emulator
