// SPDX-License-Identifier: GPL-2.0-only
// Threads on processors: taking one, being moved, and returning to user mode.
#include "sim/cpu/cpus.h"

#include <array>
#include "api/entry.h"
#include "sim/cpu/model.h"
#include "sim/host.h"
#include "sim/cpu/task.h"

namespace kvmpp::sim
{
namespace
{

// Which thread has which CPU.
std::mutex run_queue;
std::condition_variable cpu_free;
std::atomic<unsigned> preemption_interval{0};

std::array<Cpu, cpu_limit> &cpus()
{
	static std::array<Cpu, cpu_limit> all;
	return all;
}

// A preemption notifier runs with preemption off.
template <class Call>
void for_each_watch(Thread &thread, Call &&call)
{
	++thread.preempt_depth;
	for (SwitchWatch *watch : thread.switch_watches)
		call(watch->owner);
	--thread.preempt_depth;
}

void take_cpu(Thread &thread, Cpu *preferred)
{
	std::unique_lock guard{run_queue};
	cpu_free.wait(guard, [&] {
		if (preferred)
			return preferred->try_take(thread);
		if (thread.last_cpu && thread.last_cpu->try_take(thread))
			return true;
		for (Cpu &one : cpus())
			if (one.try_take(thread))
				return true;
		return false;
	});
}

void give_cpu_back(Thread &thread)
{
	{
		std::lock_guard guard{run_queue};
		thread.cpu->give_back();
	}
	cpu_free.notify_all();
}

void switch_out(Thread &thread)
{
	for_each_watch(thread, [](void *owner) { kvmpp_switched_out(owner); });
	give_cpu_back(thread);
}

void switch_in(Thread &thread, Cpu *preferred)
{
	take_cpu(thread, preferred);
	const unsigned number = thread.cpu->number;
	for_each_watch(thread, [number](void *owner) { kvmpp_switched_in(owner, number); });
}

void block()
{
	Thread &thread = this_thread();
	if (thread.kernel_depth)
		switch_out(thread);
}

void resume()
{
	Thread &thread = this_thread();
	if (thread.kernel_depth)
		switch_in(thread, nullptr);
}

void interrupts()
{
	Thread &thread = this_thread();
	if (thread.cpu && !thread.interrupts_off)
		thread.cpu->let_interrupts_in();
}

// Interrupts and other threads may come in here.
void point()
{
	Thread &thread = this_thread();
	if (!thread.cpu)
		return;
	interrupts();
	if (!thread.may_sleep())
		return;
	const unsigned interval = preemption_interval.load(std::memory_order_relaxed);
	if (!interval)
		return;
	// By chance, or a thread might be preempted each time it is about to get on.
	thread_local u64 chance = 88172645463325252;
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	if (chance % interval == 0)
		migrate_to((thread.cpu->number + 1) % cpu_limit);
}

const bool hooked = [] {
	hooks.block = block;
	hooks.resume = resume;
	hooks.point = point;
	hooks.interrupts = interrupts;
	return true;
}();

} // namespace

Cpu &cpu(unsigned number)
{
	return cpus().at(number);
}

Cpu &this_cpu()
{
	Thread &thread = this_thread();
	if (!thread.cpu)
		die("needs a CPU outside the kernel: no InKernel");
	return *thread.cpu;
}

bool Cpu::try_take(Thread &thread)
{
	if (owner_ || !online)
		return false;
	owner_ = &thread;
	thread.cpu = thread.last_cpu = this;
	std::unique_lock guard{mutex_};
	changed_.wait(guard, [&] { return !busy_; });
	busy_ = true;
	return true;
}

void Cpu::give_back()
{
	owner_->cpu = nullptr;
	owner_ = nullptr;
	std::lock_guard guard{mutex_};
	busy_ = false;
	kicked_ = false;
	changed_.notify_all();
}

void Cpu::reset(unsigned its_number)
{
	if (owner_)
		die("the machine is reset while a thread is in the kernel");
	number = its_number;
	online = true;
	host_breakpoints = l1d_flush_wanted = user_return_armed = in_guest = false;
	vtx = {};
	counts = {};
	give_plausible_registers(*this);
}

void migrate_to(unsigned number)
{
	Thread &thread = this_thread();
	if (!thread.may_sleep())
		die("is moved to another CPU with preemption off");
	for_each_watch(thread, [](void *owner) { kvmpp_switched_out(owner); });
	{
		// Where somebody else runs it does not go.
		std::unique_lock guard{run_queue};
		Cpu &old = *thread.cpu, &wanted = cpu(number);
		old.give_back();
		if (!wanted.try_take(thread) && !old.try_take(thread))
			die("a CPU was taken away from its thread");
	}
	cpu_free.notify_all();
	const unsigned now = thread.cpu->number;
	for_each_watch(thread, [now](void *owner) { kvmpp_switched_in(owner, now); });
}

void preempt_every(unsigned n)
{
	preemption_interval = n;
}

InKernel::InKernel()
{
	Thread &thread = this_thread();
	if (thread.kernel_depth++ == 0)
		take_cpu(thread, nullptr);
}

InKernel::InKernel(unsigned number)
{
	Thread &thread = this_thread();
	if (thread.kernel_depth++ == 0)
		take_cpu(thread, &cpu(number));
	else if (thread.cpu->number != number)
		migrate_to(number);
}

InKernel::~InKernel()
{
	Thread &thread = this_thread();
	if (--thread.kernel_depth)
		return;
	if (!thread.may_sleep())
		die("returns to user mode with preemption or interrupts off");
	if (thread.locks)
		die("returns to user mode with locks held: %#x", thread.locks);
	if (!thread.switch_watches.empty())
		die("returns to user mode with its switches watched");
	if (thread.fpu)
		die("returns to user mode with a guest's FPU state");
	if (thread.cpu->user_return_armed)
		kvmpp_user_return_msrs_restore();
	check_host_registers(*thread.cpu);
	give_cpu_back(thread);
}

void reset_machine()
{
	std::lock_guard guard{run_queue};
	for (unsigned i = 0; i < cpu_limit; ++i)
		cpu(i).reset(i);
	reset_model();
}

int bring_up(unsigned number)
{
	{
		std::lock_guard guard{run_queue};
		cpu(number).online = true;
	}
	int result;
	{
		InKernel kernel{number};
		result = kvmpp_cpu_online();
	}
	if (result) {
		std::lock_guard guard{run_queue};
		cpu(number).online = false;
	}
	return result;
}

void take_down(unsigned number)
{
	{
		InKernel kernel{number};
		kvmpp_cpu_offline();
	}
	std::lock_guard guard{run_queue};
	cpu(number).online = false;
}

} // namespace kvmpp::sim
