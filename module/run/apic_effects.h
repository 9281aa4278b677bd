// SPDX-License-Identifier: GPL-2.0-only
// What a write to a local APIC's register does outside the APIC.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

// False: #GP(0).
bool apply_apic_effect(machine::Vcpu &vcpu, const x86::Lapic::Effect &effect);

} // namespace kvmpp::run
