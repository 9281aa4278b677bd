// SPDX-License-Identifier: GPL-2.0-only
// A guest that runs in a thread of its own until it is told to stop.
#pragma once

#include <atomic>
#include <cerrno>
#include <sched.h>
#include <unistd.h>
#include "guest.h"

namespace kvmpp::selftests
{

inline void stay_on(unsigned cpu)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
}

struct Running {
	explicit Running(Guest &what) : guest(what), thread(run, this) { ignore_interruptions(); }
	~Running() { finish(); }

	// What the last KVM_RUN answered, -EINTR if it was this call that ended it.
	int finish()
	{
		stop = true;
		while (!ended) {
			thread.interrupt();
			usleep(1000);
		}
		thread.join();
		return answer;
	}

	static void run(void *what)
	{
		auto *self = static_cast<Running *>(what);
		while (!self->stop) {
			self->answer = self->guest.vcpu.enter();
			++self->exits;
		}
		self->ended = true;
	}

	Guest &guest;
	std::atomic<bool> stop = false, ended = false;
	std::atomic<int> answer = 0, exits = 0;
	Thread thread;
};

// Until the guest has written something there; ends the test if it does not.
inline void wait_for(const u8 &flag)
{
	// Seen once is enough: it may be a byte of a counter, which comes by zero again.
	bool seen = false;
	for (int tries = 0; tries < 3000 && !seen; ++tries) {
		if (tries > 0)
			usleep(1000);
		seen = __atomic_load_n(&flag, __ATOMIC_ACQUIRE);
	}
	REQUIRE(seen);
}

// Whether a guest's counter goes on.
inline bool advances(const u32 &counter)
{
	u32 before = __atomic_load_n(&counter, __ATOMIC_ACQUIRE);
	for (int tries = 0; tries < 3000; ++tries) {
		if (__atomic_load_n(&counter, __ATOMIC_ACQUIRE) != before)
			return true;
		usleep(1000);
	}
	return false;
}

} // namespace kvmpp::selftests
