// SPDX-License-Identifier: GPL-2.0-only
// The one object that a loaded module is.
#pragma once

#include "machine/hypervisor.h"

namespace kvmpp::api
{

// From kvmpp_start to kvmpp_stop, which no ioctl outlives.
machine::Hypervisor &hypervisor();

// The answer of KVM_CHECK_EXTENSION, of the device and of a VM.
int check_extension(long capability);

} // namespace kvmpp::api
