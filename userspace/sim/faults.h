// SPDX-License-Identifier: GPL-2.0-only
// Failures on purpose: the nth call that may fail does. A test runs a step again and again, each time
// with another call failing, until the step goes through untouched.
#pragma once

#include "host/types.h"

namespace kvmpp::sim
{

enum class Fallible : u32 {
	allocation = 1 << 0,
	host_call = 1 << 1,	  // of the seam, memory and user memory apart
	user_memory = 1 << 2,	  // copies, and looking pages up
	vmx_instruction = 1 << 3, // it alone
	vtx_lost = 1 << 4,	  // somebody has taken VT-x from the CPU before a VMX instruction
};

constexpr u32 operator|(Fallible a, Fallible b)
{
	return static_cast<u32>(a) | static_cast<u32>(b);
}
inline constexpr u32 everything_of_the_host =
	static_cast<u32>(Fallible::allocation) | (Fallible::host_call | Fallible::user_memory);

// Of the calls of these kinds, by any thread, the one after `successes` more fails, once.
void fail_after(u64 successes, u32 kinds);
void fail_nothing();
// Whether a failure has come since fail_after().
bool failed();

// For the host itself, at each such call.
bool fails_now(Fallible kind);

// Calls step() with the first call failing, then the second, and so on, until it meets no failure.
// Returns how many failures there were.
template <class Step>
unsigned with_each_failing(u32 kinds, Step &&step)
{
	for (unsigned n = 0;; ++n) {
		fail_after(n, kinds);
		step(n);
		const bool hit = failed();
		fail_nothing();
		if (!hit)
			return n;
	}
}

} // namespace kvmpp::sim
