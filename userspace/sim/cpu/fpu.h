// SPDX-License-Identifier: GPL-2.0-only
// A guest's extended state: an XSAVE image in the standard form.
#pragma once

#include <array>
#include "host/types.h"

namespace kvmpp::sim
{

struct FpuImage {
	alignas(64) std::array<u8, 4096> bytes{};
};

} // namespace kvmpp::sim
