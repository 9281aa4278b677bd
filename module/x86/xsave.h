// SPDX-License-Identifier: GPL-2.0-only
// Extended state: which components XCR0 may enable together, and how large their image is.
// SDM vol. 1, chapter 13.
#pragma once

#include "host/types.h"

namespace kvmpp::x86
{

class Cpuid;

namespace xcr0
{
inline constexpr u64 x87 = 1 << 0, sse = 1 << 1, ymm = 1 << 2, opmask = 1 << 5, zmm_hi256 = 1 << 6,
		     hi16_zmm = 1 << 7;
inline constexpr u64 avx512 = opmask | zmm_hi256 | hi16_zmm;
}

// Legacy region and header, which every image has.
inline constexpr u32 xsave_base_size = 512 + 64;

// Whether XSETBV takes the value (SDM vol. 2, XSETBV).
constexpr bool xcr0_valid(u64 value, u64 allowed)
{
	if (!(value & xcr0::x87) || value & ~allowed)
		return false;
	if (value & xcr0::ymm && !(value & xcr0::sse))
		return false;
	const u64 wide = value & xcr0::avx512;
	return wide == 0 || (wide == xcr0::avx512 && value & xcr0::ymm);
}

// Size of the XSAVE image of these components by the guest's CPUID, standard or compacted.
u32 xsave_size(const Cpuid &cpuid, u64 components, bool compacted);

} // namespace kvmpp::x86
