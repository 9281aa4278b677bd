// SPDX-License-Identifier: GPL-2.0-only
// The processors of the simulated machine, and threads that run on them. A thread has a processor for
// itself while it is in the kernel. Interrupts of other processors come in where it calls the seam
// with interrupts on, which is also where it may be moved to another processor.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include "sim/thread.h"
#include "sim/vtx/processor.h"

namespace kvmpp::sim
{

struct DebugRegisterValues {
	u64 address[4] = {};
	u64 dr6 = 0xffff0ff0;
};

class Cpu {
public:
	unsigned number = 0;
	bool online = true;

	// Only what runs on the CPU touches these.
	std::map<u32, u64> msrs; // of an MSR that is not here: #GP
	u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, xcr0 = 0;
	DebugRegisterValues debug;
	bool host_breakpoints = false, l1d_flush_wanted = false, user_return_armed = false;
	bool in_guest = false;
	vtx::Processor vtx;
	// What the host was asked to do on this CPU.
	struct Counts {
		u64 branch_barriers = 0, nmis = 0, machine_checks = 0, l1d_flushes = 0,
		    guest_leaves = 0; // interrupts came on after a guest's stretch
	} counts;

	// A reschedule interrupt: ends a guest's run.
	void kick();
	// Whether an interrupt waits that would end a guest's run.
	bool interrupted() const { return kicked_ || pending_; }
	// Sleeps in a guest that does nothing by itself. False: no interrupt came for a long time.
	bool wait_for_interrupt();

	// For the thread that runs here: serves what waits.
	void let_interrupts_in();
	// Runs function(argument) here as an interrupt, from another CPU or from this one.
	void interrupt(void (*function)(void *), void *argument);

	// A thread takes the CPU, if it is free, and gives it back.
	bool try_take(Thread &thread);
	void give_back();
	// As after power-on.
	void reset(unsigned number);

private:
	void begin_interrupt();
	void end_interrupt();

	std::mutex mutex_;
	std::condition_variable changed_;
	std::atomic<unsigned> pending_{0}; // interrupts that wait or run
	std::atomic<bool> kicked_{false};
	bool busy_ = false;	   // the thread or an interrupt executes
	Thread *owner_ = nullptr; // under the lock of all
};

// The machine. Made anew by reset(), with all CPUs alike.
inline constexpr unsigned cpu_limit = 4;
Cpu &cpu(unsigned number);
void reset_machine();
// CPU hotplug: the core is told, and refuses perhaps. Not from inside the kernel.
int bring_up(unsigned number);
void take_down(unsigned number);

// Moves the calling thread to another CPU, as the scheduler may at any time; from inside the kernel.
void migrate_to(unsigned number);
// At one of n places, on average, where a thread may be preempted it is, and continues elsewhere; 0:
// nowhere. With 1 no guest would ever be entered.
void preempt_every(unsigned n);

// The calling thread is in the kernel, on a CPU, while one lives. At the end of the outermost the
// thread must have given back all that a system call may not keep.
class InKernel {
public:
	InKernel();
	explicit InKernel(unsigned cpu);
	~InKernel();
	InKernel(const InKernel &) = delete;
};

// The CPU of the calling thread, which is in the kernel.
Cpu &this_cpu();

// A signal for a thread of the test, from another one: it leaves its guest and its sleep.
void send_signal(Thread &thread);
void send_kill(Thread &thread);

} // namespace kvmpp::sim
