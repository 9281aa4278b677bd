// SPDX-License-Identifier: GPL-2.0-only
// Interrupts from one processor to another.
#include <cerrno>
#include <chrono>
#include "sim/cpu/cpus.h"
#include "sim/host.h"
#include "sim/cpu/task.h"

namespace kvmpp::sim
{

void Cpu::kick()
{
	std::lock_guard guard{mutex_};
	kicked_ = true;
	changed_.notify_all();
}

bool Cpu::wait_for_interrupt()
{
	std::unique_lock guard{mutex_};
	return changed_.wait_for(guard, std::chrono::seconds{20}, [this] { return interrupted(); });
}

void Cpu::let_interrupts_in()
{
	kicked_.store(false, std::memory_order_relaxed);
	if (!pending_.load(std::memory_order_acquire))
		return;
	std::unique_lock guard{mutex_};
	busy_ = false;
	changed_.notify_all();
	changed_.wait(guard, [this] { return !pending_ && !busy_; });
	busy_ = true;
}

void Cpu::begin_interrupt()
{
	std::unique_lock guard{mutex_};
	changed_.wait(guard, [this] { return !busy_; });
	busy_ = true;
}

void Cpu::end_interrupt()
{
	std::lock_guard guard{mutex_};
	busy_ = false;
	--pending_;
	changed_.notify_all();
}

// Whoever waits for another CPU serves its own interrupts meanwhile.
void Cpu::interrupt(void (*function)(void *), void *argument)
{
	Thread &thread = this_thread();
	if (thread.interrupts_off)
		die("waits for an interrupt with interrupts off");
	Cpu *const own = thread.cpu;
	if (own != this) {
		{
			std::lock_guard guard{mutex_};
			++pending_;
			changed_.notify_all();
		}
		if (own) {
			std::lock_guard guard{own->mutex_};
			own->busy_ = false;
			own->changed_.notify_all();
		}
		begin_interrupt();
	}
	thread.cpu = this;
	thread.interrupts_off = true;
	function(argument);
	thread.interrupts_off = false;
	thread.cpu = own;
	if (own != this) {
		end_interrupt();
		if (own) {
			std::unique_lock guard{own->mutex_};
			own->changed_.wait(guard, [own] { return !own->busy_ && !own->pending_; });
			own->busy_ = true;
		}
	}
}

void send_signal(Thread &thread)
{
	thread.signal = true;
	wake_sleeper(thread);
	for (unsigned i = 0; i < cpu_limit; ++i)
		cpu(i).kick();
}

void send_kill(Thread &thread)
{
	thread.killed = true;
	send_signal(thread);
}

} // namespace kvmpp::sim

using namespace kvmpp;

unsigned int kvmpp_cpu_limit(void)
{
	return sim::cpu_limit;
}

unsigned int kvmpp_cpu_current(void)
{
	return sim::this_cpu().number;
}

int kvmpp_cpu_node(unsigned int)
{
	return 0;
}

void kvmpp_cpu_run_on_all(void (*function)(void *argument), void *argument)
{
	for (unsigned i = 0; i < sim::cpu_limit; ++i)
		if (sim::cpu(i).online)
			sim::cpu(i).interrupt(function, argument);
}

int kvmpp_cpu_run_on(unsigned int number, void (*function)(void *argument), void *argument)
{
	if (!sim::cpu(number).online)
		return -ENXIO;
	sim::cpu(number).interrupt(function, argument);
	return 0;
}

void kvmpp_cpu_kick(unsigned int number)
{
	sim::cpu(number).kick();
}

void kvmpp_cpu_kick_and_wait(const unsigned long *cpus)
{
	const auto nothing = [](void *) {};
	for (unsigned i = 0; i < sim::cpu_limit; ++i)
		if (cpus[i / 64] >> i % 64 & 1)
			kvmpp_cpu_run_on(i, nothing, nullptr);
}

void kvmpp_cpu_hotplug_lock(void)
{
	sim::might_sleep("the hotplug lock");
}

void kvmpp_cpu_hotplug_unlock(void)
{
}

unsigned long kvmpp_irq_save(void)
{
	sim::Thread &thread = sim::this_thread();
	const bool off = thread.interrupts_off;
	thread.interrupts_off = true;
	return off;
}

void kvmpp_irq_restore(unsigned long off)
{
	if (!off)
		kvmpp_irq_enable();
}

void kvmpp_irq_disable(void)
{
	sim::this_thread().interrupts_off = true;
}

void kvmpp_irq_enable(void)
{
	sim::this_thread().interrupts_off = false;
	sim::hooks.point();
}

void kvmpp_preempt_disable(void)
{
	++sim::this_thread().preempt_depth;
}

void kvmpp_preempt_enable(void)
{
	sim::Thread &thread = sim::this_thread();
	if (!thread.preempt_depth)
		sim::die("enables preemption that is on");
	--thread.preempt_depth;
	sim::hooks.point();
}
