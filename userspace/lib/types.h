// SPDX-License-Identifier: GPL-2.0-only
// The integers of the ABI, by the names that the module uses too.
#pragma once

#include <cstddef>
#include <linux/types.h>

namespace kvmpp::lib
{

using u8 = __u8;
using u16 = __u16;
using u32 = __u32;
using u64 = __u64;

} // namespace kvmpp::lib
