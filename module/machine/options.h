// SPDX-License-Identifier: GPL-2.0-only
// What a VM does only because its VMM asked (KVM_ENABLE_CAP). Small enough to be read at once.
#pragma once

#include "host/types.h"

namespace kvmpp::machine
{

struct VmOptions {
	bool exception_payload : 1 = false;	    // KVM_CAP_EXCEPTION_PAYLOAD
	bool triple_fault_event : 1 = false;	    // KVM_CAP_X86_TRIPLE_FAULT_EVENT
	bool exit_on_emulation_failure : 1 = false; // KVM_CAP_EXIT_ON_EMULATION_FAILURE
	bool filters_msrs : 1 = false;		    // KVM_X86_SET_MSR_FILTER
	u8 user_msr_reasons = 0;		    // KVM_CAP_X86_USER_SPACE_MSR
};

} // namespace kvmpp::machine
