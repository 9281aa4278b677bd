// SPDX-License-Identifier: GPL-2.0-only
// Which MSRs a VMM lets its guest have. KVM API, KVM_X86_SET_MSR_FILTER. Immutable once published.
#pragma once

#include <array>
#include <linux/kvm.h>
#include "host/memory.h"

namespace kvmpp::machine
{

class MsrFilter {
    public:
	struct Range {
		u32 first = 0, count = 0;
		u32 flags = 0; // KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE
		host::Array<u8> allowed; // a bit each

		bool holds(u32 index) const { return index - first < count; }
		bool allows(u32 index) const
		{
			return allowed[(index - first) / 8] >> (index - first) % 8 & 1;
		}
	};

	std::array<Range, KVM_MSR_FILTER_MAX_RANGES> ranges{};
	bool default_allow = true;

	// access: KVM_MSR_FILTER_READ or KVM_MSR_FILTER_WRITE. The first range that speaks of it decides.
	bool allows(u32 index, u32 access) const
	{
		for (const Range &range : ranges)
			if (range.flags & access && range.holds(index))
				return range.allows(index);
		return default_allow;
	}
};

} // namespace kvmpp::machine
