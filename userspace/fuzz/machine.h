// SPDX-License-Identifier: GPL-2.0-only
// The core on the simulated machine for the time of one input, which must leave nothing behind.
#pragma once

#include "fuzz/input.h"
#include "sim/vtx/guest.h"

namespace kvmpp::fuzz
{

class Machine {
public:
	Machine();
	// Everything of the module's that is still given out, or refused by the processor, ends the run.
	~Machine();
	Machine(const Machine &) = delete;
};

// What the guest does next, as the input says: any exit with any information. At the end of the input a
// triple fault, which goes to the VMM.
sim::GuestExit arbitrary_exit(Input &input, sim::Guest &guest);

// Calls so far, which the program prints when it ends.
void count_ioctl();
void count_exit();

} // namespace kvmpp::fuzz
