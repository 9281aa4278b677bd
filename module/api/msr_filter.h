// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "machine/vm.h"

namespace kvmpp::api
{

// Refused accesses that KVM_CAP_X86_USER_SPACE_MSR can bring to the VMM.
inline constexpr u32 user_msr_reasons =
	KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;

// KVM_X86_SET_MSR_FILTER. EINVAL: unknown flags, a range too long, or nothing allowed at all.
Result<> set_msr_filter(machine::Vm &vm, const kvm_msr_filter &request);

} // namespace kvmpp::api
