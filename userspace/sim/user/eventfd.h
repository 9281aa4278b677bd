// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "sim/user/files.h"

namespace kvmpp::sim
{

// Eventfds have their descriptors below those of files.
inline constexpr int first_eventfd = 3, max_eventfds = 997;
constexpr int first_free_descriptor()
{
	return first_eventfd + max_eventfds;
}

bool is_eventfd(int fd);
void close_eventfd(int fd);
// The part of FileCounts that concerns them.
FileCounts eventfd_counts();

} // namespace kvmpp::sim
