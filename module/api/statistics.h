// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_STATS_FD: counters in KVM's self-describing binary format.
#pragma once

#include "machine/vm.h"

namespace kvmpp::api
{

// A descriptor from which the counters can be read. The file keeps the VM.
Result<long> statistics_file(machine::Vm &vm);
Result<long> statistics_file(machine::Vcpu &vcpu);

} // namespace kvmpp::api
