// SPDX-License-Identifier: GPL-2.0-only
// The CPUID leaves of a virtual processor: asked of the system, edited, given to a vCPU.
#pragma once

#include "uapi/kvmpp.h"
#include <vector>
#include "lib/types.h"

namespace kvmpp::lib
{

class Cpuid {
public:
	Cpuid() = default;
	explicit Cpuid(std::vector<kvm_cpuid_entry2> entries) : entries_{std::move(entries)} {}

	const std::vector<kvm_cpuid_entry2> &entries() const { return entries_; }

	kvm_cpuid_entry2 *find(u32 function, u32 index = 0);
	// The entry of that leaf, which is added, all zero, if there is none.
	kvm_cpuid_entry2 &at(u32 function, u32 index, bool index_matters);
	void remove(u32 function);

private:
	std::vector<kvm_cpuid_entry2> entries_;
};

} // namespace kvmpp::lib
