// SPDX-License-Identifier: GPL-2.0-only
#include "sim/faults.h"

#include <atomic>
#include "sim/host.h"

namespace kvmpp::sim
{
namespace
{

// Successes left before a failure; negative: none is wanted.
std::atomic<s64> successes_left{-1};
std::atomic<u32> wanted{0};
std::atomic<u64> failures{0}, failures_before{0};

} // namespace

void fail_after(u64 successes, u32 kinds)
{
	failures_before = failures.load();
	wanted = kinds;
	successes_left = static_cast<s64>(successes);
}

void fail_nothing()
{
	successes_left = -1;
}

bool failed()
{
	return failures != failures_before;
}

bool fails_now(Fallible kind)
{
	if (successes_left.load() < 0 || !(wanted.load() & static_cast<u32>(kind)) ||
		successes_left.fetch_sub(1) != 0)
		return false;
	++failures;
	return true;
}

void fail_allocation_after(u64 successes)
{
	fail_after(successes, static_cast<u32>(Fallible::allocation));
}

void fail_no_allocation()
{
	fail_nothing();
}

} // namespace kvmpp::sim
