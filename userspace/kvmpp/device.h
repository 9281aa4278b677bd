// SPDX-License-Identifier: GPL-2.0-only
// Opening the device that the user named, or the one there is.
#pragma once

#include <string>
#include "lib/system.h"

namespace kvmpp::command
{

// /dev/kvmpp, unless there is only /dev/kvm.
std::string default_device();

// Throws a Refusal that says what to do about it.
lib::System open_device(const std::string &path);
lib::Machine create_machine(const lib::System &system);

} // namespace kvmpp::command
