// SPDX-License-Identifier: GPL-2.0-only
// Which processor is simulated: an Intel server core with every VT-x capability that kvmpp knows of,
// unless a test says otherwise.
#pragma once

#include <optional>
#include "sim/cpu/cpus.h"
#include "sim/cpuid.h"

namespace kvmpp::sim
{

// Registers as the host runs with, on a processor that has them.
void give_plausible_registers(Cpu &cpu);
// Mitigations, MSR slots and what else belongs to the machine as a whole.
void reset_model();
// At a return to user mode nothing of a guest may be left in registers.
void check_host_registers(const Cpu &cpu);

// kvmpp_mitigation bits, before kvmpp_start().
void set_mitigations(u32 mitigations);

// What kvmpp_mwait_usable() answers; yes until then.
void set_mwait_usable(bool usable);

// What kvmpp_apicv() answers; -1 until then.
void set_apicv(int wanted);
// What kvmpp_pml() answers; true until then.
void set_pml(bool wanted);

// An MSR of all CPUs, or nothing: #GP.
void set_msr_everywhere(u32 index, std::optional<u64> value);

} // namespace kvmpp::sim
