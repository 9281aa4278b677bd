// SPDX-License-Identifier: GPL-2.0-only
// The calling thread: pending work, blocking and waking, and being scheduled.
#include "sim/cpu/task.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <unistd.h>
#include "sim/cpu/cpus.h"
#include "sim/host.h"

namespace kvmpp::sim
{
namespace
{

// One queue for all sleepers: there are few, and each looks for itself whether it was meant.
std::mutex sleepers;
std::condition_variable woken;

struct Waiter {
	std::atomic<u64> wakes{0};
};

} // namespace

void wake_sleeper(Thread &)
{
	std::lock_guard guard{sleepers};
	woken.notify_all();
}

} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_signal_pending(void)
{
	return sim::this_thread().signal;
}

int kvmpp_work_pending(void)
{
	const sim::Thread &thread = sim::this_thread();
	return thread.signal || thread.reschedule;
}

int kvmpp_work_handle(void)
{
	sim::might_sleep("work before entering a guest");
	sim::Thread &thread = sim::this_thread();
	if (thread.reschedule.exchange(false))
		kvmpp_cond_resched();
	return thread.signal ? -EINTR : 0;
}

void kvmpp_cond_resched(void)
{
	sim::might_sleep("cond_resched");
}

// Time stands still while a thread looks at it, so by default it never does.
int kvmpp_alone_on_cpu(void)
{
	return sim::this_thread().alone;
}

void kvmpp_cpu_relax(void)
{
	std::this_thread::yield();
}

kvmpp_halt_polling kvmpp_halt_polling_parameters(void)
{
	return {.most = 200'000, .grow = 2, .grow_start = 10'000, .shrink = 0};
}

void kvmpp_pause(void)
{
	sim::might_sleep("a pause");
	std::this_thread::sleep_for(std::chrono::microseconds{20});
}

// A thread is its own name: those of tests outlive the machines that know them.
kvmpp_thread *kvmpp_thread_current(void)
{
	return reinterpret_cast<kvmpp_thread *>(&sim::this_thread());
}

kvmpp_thread *kvmpp_thread_get(kvmpp_thread *thread)
{
	return thread;
}

void kvmpp_thread_put(kvmpp_thread *) {}

int kvmpp_thread_is_current(const kvmpp_thread *thread)
{
	return thread == kvmpp_thread_current();
}

int kvmpp_thread_yield_to(kvmpp_thread *thread)
{
	sim::might_sleep("yielding");
	++reinterpret_cast<sim::Thread *>(thread)->yields_to_it;
	return 1;
}

__u64 kvmpp_run_delay_ns(void)
{
	return sim::this_thread().run_delay;
}

__s32 kvmpp_process_id(void)
{
	return getpid();
}

void kvmpp_signal_mask_set(__u64 mask)
{
	sim::Thread &thread = sim::this_thread();
	thread.saved_signal_mask = thread.signal_mask;
	thread.signal_mask = mask;
}

void kvmpp_signal_mask_restore(void)
{
	sim::Thread &thread = sim::this_thread();
	thread.signal_mask = thread.saved_signal_mask;
}

void kvmpp_waiter_init(kvmpp_waiter *waiter)
{
	sim::construct_in<sim::Waiter>(waiter);
}

void kvmpp_wait(kvmpp_waiter *storage, int (*ready)(void *context), void *context)
{
	sim::might_sleep("a wait");
	sim::Thread &thread = sim::this_thread();
	auto &waiter = sim::object_in<sim::Waiter>(storage);
	for (;;) {
		const u64 seen = waiter.wakes;
		if (ready(context) || thread.signal)
			return;
		sim::hooks.block();
		if (thread.impatient) {
			thread.signal = true;
			sim::hooks.resume();
			return;
		}
		{
			std::unique_lock guard{sim::sleepers};
			if (!sim::woken.wait_for(guard, std::chrono::seconds{30}, [&] {
				    return waiter.wakes != seen || thread.signal;
			    }))
				sim::die("a thread sleeps and nobody wakes it");
		}
		sim::hooks.resume();
	}
}

void kvmpp_wake(kvmpp_waiter *storage)
{
	std::lock_guard guard{sim::sleepers};
	++sim::object_in<sim::Waiter>(storage).wakes;
	sim::woken.notify_all();
}

void kvmpp_switch_watch_start(kvmpp_switch_watch *watch, void *owner)
{
	sim::construct_in<sim::SwitchWatch>(watch, owner);
	sim::this_thread().switch_watches.push_back(&sim::object_in<sim::SwitchWatch>(watch));
}

void kvmpp_switch_watch_stop(kvmpp_switch_watch *watch)
{
	if (!std::erase(sim::this_thread().switch_watches, &sim::object_in<sim::SwitchWatch>(watch)))
		sim::die("stops a watch of another thread's switches");
}
