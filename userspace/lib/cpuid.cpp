// SPDX-License-Identifier: GPL-2.0-only
// Finding and editing CPUID leaves.
#include "lib/cpuid.h"

#include <algorithm>

namespace kvmpp::lib
{

kvm_cpuid_entry2 *Cpuid::find(u32 function, u32 index)
{
	const auto found = std::ranges::find_if(entries_, [&](const kvm_cpuid_entry2 &entry) {
		const bool index_matters = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		return entry.function == function && (!index_matters || entry.index == index);
	});
	return found == entries_.end() ? nullptr : &*found;
}

kvm_cpuid_entry2 &Cpuid::at(u32 function, u32 index, bool index_matters)
{
	if (kvm_cpuid_entry2 *entry = find(function, index))
		return *entry;
	kvm_cpuid_entry2 entry{};
	entry.function = function;
	entry.index = index;
	entry.flags = index_matters ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	return entries_.emplace_back(entry);
}

void Cpuid::remove(u32 function)
{
	std::erase_if(entries_, [&](const auto &entry) { return entry.function == function; });
}

} // namespace kvmpp::lib
