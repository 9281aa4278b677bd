// SPDX-License-Identifier: GPL-2.0-only
// The machine in which operations are measured: one processor in 32-bit protected mode without
// paging, interrupt controllers in the kernel, and no device.
#pragma once

#include "lib/system.h"

namespace kvmpp::command
{

class BenchGuest {
public:
	// Throws a Refusal.
	explicit BenchGuest(const lib::System &system);

	lib::Machine &machine() { return machine_; }
	lib::VirtualCpu &vcpu() { return vcpu_; }

	// Runs a routine of bench/guest.S. The answer is how many ticks it counted.
	lib::u64 measure(const std::byte *routine, lib::u64 count, lib::u64 argument);

private:
	lib::Machine machine_;
	lib::VirtualCpu vcpu_;
};

} // namespace kvmpp::command
