// SPDX-License-Identifier: GPL-2.0-only
// The commands. Each takes the words behind its name and answers the exit status.
#pragma once

#include <span>

namespace kvmpp::command
{

int run(std::span<const char *const> arguments);
int status(std::span<const char *const> arguments);
int bench(std::span<const char *const> arguments);

} // namespace kvmpp::command
