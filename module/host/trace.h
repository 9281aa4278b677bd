// SPDX-License-Identifier: GPL-2.0-only
// Tracepoints. What is not traced costs a load and a branch.
#pragma once

#include "host/seam.h"

namespace kvmpp::host
{

inline bool tracing()
{
	return __atomic_load_n(&kvmpp_tracing, __ATOMIC_RELAXED);
}

} // namespace kvmpp::host

// KVMPP_TRACE(exit, ...) calls kvmpp_note_exit(...), and evaluates its arguments, if anything is traced.
#define KVMPP_TRACE(event, ...)                                                                    \
	do {                                                                                       \
		if (::kvmpp::host::tracing()) [[unlikely]]                                         \
			kvmpp_note_##event(__VA_ARGS__);                                           \
	} while (0)
