// SPDX-License-Identifier: GPL-2.0-only
// The simulated host, as tests steer it. What the seam forbids (sleeping in atomic context, taking
// a lock twice, memory that is never freed) ends the test at once.
#pragma once

#include <new>
#include <string>
#include "host/types.h"

namespace kvmpp::sim
{

// Ends the program with one line.
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *format, ...);

// An object of the simulated host in the storage that the core reserves for it.
template <class Object, class Storage>
Object &object_in(Storage *storage)
{
	static_assert(sizeof(Object) <= sizeof(Storage), "host_layout.h reserves too little");
	static_assert(alignof(Object) <= alignof(Storage));
	return *std::launder(reinterpret_cast<Object *>(storage->bytes));
}

template <class Object, class Storage, class... Arguments>
void construct_in(Storage *storage, Arguments &&...arguments)
{
	static_assert(sizeof(Object) <= sizeof(Storage), "host_layout.h reserves too little");
	::new (storage->bytes) Object{static_cast<Arguments &&>(arguments)...};
}

// --- context of the calling thread
// ----------------------------------------------------------------

// While one lives, the thread is in atomic context: it holds a spinlock, or runs a timer's callback.
class Atomic {
public:
	Atomic();
	~Atomic();
	Atomic(const Atomic &) = delete;
};
void enter_atomic();
void leave_atomic();
bool in_atomic();
// Where the seam says "may sleep".
void might_sleep(const char *what);

// --- memory
// ------------------------------------------------------------------------------------------

struct MemoryStatistics {
	u64 live;   // allocations not yet freed
	u64 failed; // that were made to fail
};
MemoryStatistics memory_statistics();
// The allocation after `successes` more fails, once.
void fail_allocation_after(u64 successes);
void fail_no_allocation();

// --- the log
// -----------------------------------------------------------------------------------------

// While one lives, what the core writes to the log comes here.
class LogCapture {
public:
	LogCapture();
	~LogCapture();
	LogCapture(const LogCapture &) = delete;
	std::string text() const;

private:
	std::string text_, *before_;
};

} // namespace kvmpp::sim
