// SPDX-License-Identifier: GPL-2.0-only
// What the calling thread may do.
#include "sim/thread.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include "sim/host.h"

namespace kvmpp::sim
{

constinit SchedulingHooks hooks{};

Thread &this_thread()
{
	thread_local Thread thread;
	return thread;
}

void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	std::fputs("simulated host: ", stderr);
	std::vfprintf(stderr, format, arguments);
	std::fputc('\n', stderr);
	va_end(arguments);
	std::abort();
}

void enter_atomic()
{
	++this_thread().atomic_depth;
}

void leave_atomic()
{
	if (!this_thread().atomic_depth)
		die("leaves atomic context without having entered it");
	--this_thread().atomic_depth;
}

bool in_atomic()
{
	return !this_thread().may_sleep();
}

void might_sleep(const char *what)
{
	if (in_atomic())
		die("%s may sleep, in atomic context", what);
	if (hooks.point)
		hooks.point();
}

Atomic::Atomic()
{
	enter_atomic();
}

Atomic::~Atomic()
{
	leave_atomic();
}

} // namespace kvmpp::sim
