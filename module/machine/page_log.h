// SPDX-License-Identifier: GPL-2.0-only
// Where the processor notes the pages whose dirty flag it sets while a vCPU runs. SDM vol. 3, 29.3.6.
#pragma once

#include "host/memory.h"

namespace kvmpp::machine
{

struct PageLog {
	static constexpr u32 entries = page_size / sizeof(u64);
	// It is filled from its end to its beginning; the index is that of the next entry.
	static constexpr u16 empty = entries - 1;

	host::Page page; // none: the processor has no log
	bool on = false; // in the VMCS
	Gpa at(unsigned index) const { return Gpa{page.as<u64>()[index]}; }
};

} // namespace kvmpp::machine
