// SPDX-License-Identifier: GPL-2.0-only
// CPUID of the simulated machine.
#pragma once

#include "host/types.h"

namespace kvmpp::sim
{

struct CpuidResult {
	u32 eax, ebx, ecx, edx;
};

// What a leaf says from now on, until reset_cpuid().
void set_cpuid(u32 leaf, u32 subleaf, const CpuidResult &result);
CpuidResult get_cpuid(u32 leaf, u32 subleaf);
void reset_cpuid();

inline constexpr unsigned physical_bits = 48;

} // namespace kvmpp::sim
