// SPDX-License-Identifier: GPL-2.0-only
// Against bounds check bypass (Spectre variant 1).
#pragma once

#include "host/types.h"

namespace kvmpp
{

// An index that has been checked to be below `size`: itself, and 0 while the processor speculates
// that the check went otherwise. The arithmetic depends on the index, not on a predicted branch.
inline usize clamped(usize index, usize size)
{
	usize mask;
	asm volatile("cmp %[size], %[index]\n\t"
		     "sbb %[mask], %[mask]"
		     : [mask] "=r"(mask)
		     : [size] "r"(size), [index] "r"(index)
		     : "cc");
	return index & mask;
}

} // namespace kvmpp
