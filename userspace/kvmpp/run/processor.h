// SPDX-License-Identifier: GPL-2.0-only
// A virtual processor as this machine has it: CPUID with its place in the topology, MSRs, and for
// the first one the registers a kernel is entered with.
#pragma once

#include "lib/cpuid.h"
#include "lib/virtual_cpu.h"

namespace kvmpp::command
{

// `supported` is what the system offers; one package of `count` cores without hyper-threads.
lib::Cpuid cpuid_of(lib::Cpuid supported, unsigned index, unsigned count, bool has_tsc_deadline);

// Throws a Refusal.
void prepare(const lib::VirtualCpu &vcpu, const lib::Cpuid &cpuid, bool is_first);

} // namespace kvmpp::command
