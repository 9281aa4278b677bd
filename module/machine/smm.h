// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's system management mode, apart from what the mode has saved in the guest's memory.
#pragma once

#include "x86/smm.h"

namespace kvmpp::machine
{

struct Smm {
	bool active = false;	   // changed by Vcpu::set_smm() only
	bool inside_nmi = false;   // it has interrupted an NMI's handler: RSM leaves NMIs as they are
	bool latched_init = false; // an INIT that waits for RSM
	u32 base = x86::smm::default_base; // IA32_SMBASE
	u64 count = 0;			   // MSR_SMI_COUNT
};

} // namespace kvmpp::machine
