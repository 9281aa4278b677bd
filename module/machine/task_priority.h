// SPDX-License-Identifier: GPL-2.0-only
// What a VMM wants to know of its guest's task priority, for guests that change it all the time:
// KVM_SET_VAPIC_ADDR, a word in guest memory where the guest reads and writes TPR without an exit, and
// KVM_TPR_ACCESS_REPORTING, by which the VMM finds the instructions to patch. Belongs to the vCPU's
// thread.
#pragma once

#include <optional>
#include "host/types.h"

namespace kvmpp::machine
{

struct TaskPriority {
	struct Access {
		u64 rip;
		bool write;
	};

	Gpa shared{}; // 0: none
	bool reports = false;
	std::optional<Access> accessed; // to be reported

	void note(u64 rip, bool write)
	{
		if (reports)
			accessed = Access{rip, write};
	}
};

} // namespace kvmpp::machine
