// SPDX-License-Identifier: GPL-2.0-only
// The checks at VM entry. Each returns what is wrong, or nullptr.
#pragma once

#include "sim/cpu/cpus.h"
#include "sim/vtx/vmcs.h"

namespace kvmpp::sim::vtx
{

// SDM vol. 3, 27.2.1: VM-execution, VM-exit and VM-entry controls, and the event to be injected.
const char *check_controls(const Vmcs &vmcs, const Cpu &cpu);
const char *check_injected_event(const Vmcs &vmcs);
// 27.2.2 to 27.2.4.
const char *check_host_state(const Vmcs &vmcs, const Cpu &cpu);
// 27.3.1. The qualification is that of 27.8.
const char *check_guest_state(const Vmcs &vmcs, const Cpu &cpu, u64 &qualification);

constexpr bool canonical(u64 address)
{
	return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address;
}

bool pat_valid(u64 pat);

} // namespace kvmpp::sim::vtx
