// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "sim/vtx/vmcs.h"

namespace kvmpp::sim::vtx
{

// Segment registers at VM entry, SDM vol. 3, 27.3.1.2. What is wrong, or nullptr.
const char *check_segments(const Vmcs &vmcs);

} // namespace kvmpp::sim::vtx
