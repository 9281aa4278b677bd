// SPDX-License-Identifier: GPL-2.0-only
// Whoever watches the test's address space.
#pragma once

#include <functional>
#include "host/types.h"

namespace kvmpp::sim
{

// Around a change of the mappings in [start, end).
void tell_watches(u64 start, u64 end, const std::function<void()> &change);
bool ask_watches_for_use(u64 start, u64 end, bool clear);
// How many there are.
usize watches();

} // namespace kvmpp::sim
