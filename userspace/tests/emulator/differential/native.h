// SPDX-License-Identifier: GPL-2.0-only
// The processor's side of the comparison: a child in which states run, and which may die of them.
#pragma once

#include <sys/types.h>
#include "tests/emulator/differential/state.h"

namespace kvmpp::x86::emulator::differential
{

class NativeSide {
public:
	explicit NativeSide(Batch &batch) : batch_{batch} {}
	~NativeSide();
	NativeSide(const NativeSide &) = delete;

	// Runs the batch from batch.at on. False: the child has died, or hung, of the state at
	// batch.at.
	bool run();

private:
	bool start();
	void stop();

	Batch &batch_;
	pid_t child_ = 0;
	int to_child_ = -1, from_child_ = -1;
};

} // namespace kvmpp::x86::emulator::differential
