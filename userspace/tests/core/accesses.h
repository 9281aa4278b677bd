// SPDX-License-Identifier: GPL-2.0-only
// How many VMX instructions an exit costs, from the guest's exit to its next entry, in a 64-bit guest.
#pragma once

#include <vector>
#include "sim/vtx/processor.h"

namespace kvmpp::tests
{

struct ExitCost {
	const char *exit;
	sim::vtx::Counts spent;
	// Of VMREADs and VMWRITEs; 0: none is set.
	unsigned max_reads = 0, max_writes = 0;
};

// Of each kind of exit, as it repeats. The module is loaded.
std::vector<ExitCost> measure_exits();

} // namespace kvmpp::tests
