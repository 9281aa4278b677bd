// SPDX-License-Identifier: GPL-2.0-only
#include "x86/xsave.h"

#include <algorithm>
#include "x86/cpuid.h"

namespace kvmpp::x86
{

u32 xsave_size(const Cpuid &cpuid, u64 components, bool compacted)
{
	u32 size = xsave_base_size;
	// Components 0 and 1 are the legacy region.
	for (unsigned i = 2; i < 63; ++i) {
		if (!(components >> i & 1))
			continue;
		const auto *entry = cpuid.find(0xd, i);
		if (!entry)
			continue;
		constexpr u32 align_64 = 1 << 1;
		if (!compacted)
			size = std::max(size, entry->ebx + entry->eax);
		else
			size = (entry->ecx & align_64 ? (size + 63) & ~u32{63} : size) + entry->eax;
	}
	return size;
}

} // namespace kvmpp::x86
