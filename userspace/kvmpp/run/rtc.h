// SPDX-License-Identifier: GPL-2.0-only
// The clock of a PC, as far as an operating system reads it: the host's time, in UTC.
#pragma once

#include <ctime>
#include "lib/types.h"

namespace kvmpp::command
{

lib::u8 rtc_register(lib::u8 index, std::time_t now = std::time(nullptr));

} // namespace kvmpp::command
