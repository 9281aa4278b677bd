// SPDX-License-Identifier: GPL-2.0-only
// Sleeping, and being told of it.
#pragma once

#include "sim/thread.h"

namespace kvmpp::sim
{

struct SwitchWatch {
	void *owner;
};

void wake_sleeper(Thread &thread);

} // namespace kvmpp::sim
