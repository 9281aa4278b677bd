// SPDX-License-Identifier: GPL-2.0-only
// Writes of control and debug registers as an instruction makes them: with the processor's checks.
// Used by the exits and by the emulator.
#pragma once

#include <expected>
#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// False: #GP(0), and nothing has changed. May sleep (PDPTEs are read from the guest's memory).
bool write_cr0(Vcpu &vcpu, vmx::Current vmcs, u64 value);
bool write_cr3(Vcpu &vcpu, vmx::Current vmcs, u64 value);
bool write_cr4(Vcpu &vcpu, vmx::Current vmcs, u64 value);
bool write_cr8(Vcpu &vcpu, u64 value);

// By number, 0 to 7, CPL and DR7.GD aside.
std::expected<u64, x86::Exception> read_dr(Vcpu &vcpu, vmx::Current vmcs, unsigned number);
std::expected<void, x86::Exception> write_dr(Vcpu &vcpu, vmx::Current vmcs, unsigned number, u64 value);

} // namespace kvmpp::run
