// SPDX-License-Identifier: GPL-2.0-only
// What the simulated kernel knows of a thread of the test.
#pragma once

#include <atomic>
#include <vector>
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::sim
{

class Cpu;
struct FpuImage;

struct Thread {
	// Which of its rights to sleep and to be moved the thread has given up.
	unsigned atomic_depth = 0; // spinlocks held, a timer's callback
	unsigned preempt_depth = 0;
	bool interrupts_off = false;
	u32 locks = 0;		     // those that are held: bits of enum kvmpp_lock_class

	Cpu *cpu = nullptr; // where it runs; none in user mode
	Cpu *last_cpu = nullptr;
	unsigned kernel_depth = 0;
	std::vector<struct SwitchWatch *> switch_watches;

	int address_space = 1;
	u64 run_delay = 0; // ns that it waited for a CPU, as the test says
	std::atomic<unsigned> yields_to_it{0};
	FpuImage *fpu = nullptr; // of the guest, between kvmpp_fpu_enter and leave
	u64 saved_signal_mask = 0, signal_mask = 0;

	// Gets a signal instead of a sleep without end.
	bool impatient = false;
	// No other thread wants its CPU.
	bool alone = false;
	// Set by other threads.
	std::atomic<bool> signal{false}; // pending and not masked
	std::atomic<bool> killed{false}; // a fatal one
	std::atomic<bool> reschedule{false};

	bool may_sleep() const { return !atomic_depth && !preempt_depth && !interrupts_off; }
};

Thread &this_thread();

// What scheduling adds to locks and memory, once there are CPUs (cpu/cpus.h). Here so that models
// without a processor are tested without one.
struct SchedulingHooks {
	void (*block)() = nullptr; // the thread goes to sleep
	void (*resume)() = nullptr;
	void (*point)() = nullptr;	// interrupts and other threads may come in
	void (*interrupts)() = nullptr; // interrupts alone
	void (*page_freed)(const void *page) = nullptr;
};
extern constinit SchedulingHooks hooks;

} // namespace kvmpp::sim
