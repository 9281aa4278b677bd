// SPDX-License-Identifier: GPL-2.0-only
// kvmpp-accesses: prints what an exit of each kind costs in VMX instructions.
#include <cstdio>
#include "api/entry.h"
#include "sim/cpu/cpus.h"
#include "tests/core/accesses.h"

int main()
{
	using namespace kvmpp;
	sim::reset_machine();
	{
		sim::InKernel kernel;
		if (kvmpp_start(true))
			return 1;
	}
	std::printf("%-34s %8s %8s\n", "exit", "VMREADs", "VMWRITEs");
	for (const auto &cost : tests::measure_exits())
		std::printf("%-34s %8llu %8llu\n", cost.exit, cost.spent.reads, cost.spent.writes);
	sim::InKernel kernel;
	kvmpp_stop();
	return 0;
}
