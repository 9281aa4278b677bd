// SPDX-License-Identifier: GPL-2.0-only
#include "step.h"
#include "deadline.h"

#include <cstdarg>
#include <cstdio>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

unsigned number = 0;
const char *current = "the session begins";
double began = 0;

} // namespace

Step::Step(const char *name)
{
	++number;
	current = name;
	began = now();
}

Step::~Step()
{
	note("that took %.1f s", now() - began);
	printf("ok %u - %s\n", number, current);
	fflush(stdout);
}

void fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	printf("# ");
	vprintf(format, arguments);
	printf("\nnot ok %u - %s\n", number, current);
	fflush(stdout);
	va_end(arguments);
	_exit(1);
}

void note(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	printf("# ");
	vprintf(format, arguments);
	printf("\n");
	fflush(stdout);
	va_end(arguments);
}

void end_of_steps()
{
	printf("1..%u\n", number);
	fflush(stdout);
}

} // namespace kvmpp::qemu
