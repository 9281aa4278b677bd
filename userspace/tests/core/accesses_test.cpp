// SPDX-License-Identifier: GPL-2.0-only
#include "tests/core/accesses.h"
#include "tests/core/machine.h"

namespace kvmpp::tests
{

using Accesses = Machine;

TEST_F(Accesses, StayBelowTheirLimits)
{
	for (const ExitCost &cost : measure_exits()) {
		// One entry, and besides accesses to the VMCS nothing while the vCPU stays on its CPU.
		EXPECT_EQ(cost.spent.entries, 1u) << cost.exit;
		EXPECT_EQ(cost.spent.others, 0u) << cost.exit;
		if (!cost.max_reads)
			continue;
		EXPECT_LE(cost.spent.reads, cost.max_reads) << cost.exit;
		EXPECT_LE(cost.spent.writes, cost.max_writes) << cost.exit;
	}
}

} // namespace kvmpp::tests
