// SPDX-License-Identifier: GPL-2.0-only
// How other threads reach a vCPU: requests that it must see before it enters the guest again, waking
// it from sleep, and taking it out of the guest. Any thread, any context, unless noted.
#pragma once

#include <atomic>
#include "host/seam.h"
#include "host/task.h"

namespace kvmpp::machine
{

enum class Request : u32 {
	event = 1 << 0,	       // something may be deliverable
	flush_ept = 1 << 1,    // forget guest-physical translations
	flush_linear = 1 << 2, // forget linear translations
	clock = 1 << 3,	       // rewrite the kvmclock page
	msr_filter = 1 << 4,   // which MSRs exit has changed
	unhalt = 1 << 5,       // KVM_HC_KICK_CPU: a HLT is over, or the next one is
	steal_time = 1 << 6,   // the thread was away from its CPU, and the guest wants to know
	local_apic = 1 << 7,   // what the processor does of it by itself: run/virtual_apic.h
	async_fault = 1 << 8,  // a page is there that the guest does not wait for: run/async_fault.h
	page_log = 1 << 9,     // whether the pages that it writes are logged has changed
};

constexpr u32 operator&(u32 requests, Request one)
{
	return requests & static_cast<u32>(one);
}

class Mailbox : host::Pinned {
    public:
	void request(Request what) { requests_.fetch_or(static_cast<u32>(what)); }
	void kick()
	{
		waiter_.wake();
		const int cpu = cpu_in_guest();
		if (cpu >= 0)
			kvmpp_cpu_kick(cpu);
	}
	void request_and_kick(Request what)
	{
		request(what);
		kick();
	}
	// The CPU where it runs its guest, so that only a kick makes it see a request; or -1.
	int cpu_in_guest() const { return cpu_.load(std::memory_order_seq_cst); }

	// --- the vCPU's thread -----------------------------------------------------------------

	bool requested() const { return requests_.load(std::memory_order_relaxed); }
	u32 take() { return requests_.exchange(0, std::memory_order_acquire); }

	// Interrupts off. What is posted before is seen by a look at requests afterwards; what is
	// posted later comes with a kick.
	void enter_guest() { cpu_.store(kvmpp_cpu_current(), std::memory_order_seq_cst); }
	void leave_guest() { cpu_.store(-1, std::memory_order_release); }

	// Until ready() or a signal.
	template <class Ready>
	void sleep_until(const Ready &ready)
	{
		waiter_.wait(ready);
	}

    private:
	std::atomic<u32> requests_{0};
	std::atomic<int> cpu_{-1};
	host::Waiter waiter_;
};

} // namespace kvmpp::machine
