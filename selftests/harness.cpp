// SPDX-License-Identifier: GPL-2.0-only
// Runs the tests of one program: `PROGRAM [DEVICE [TEST...]]`.
#include "harness.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvmpp::selftests
{

const char *device = "/dev/kvmpp";

namespace
{

constexpr int exit_passed = 0, exit_failed = 1, exit_skipped = 4;
constexpr unsigned seconds_per_test = 60;

Test *first = nullptr;
Test **last = &first;
bool failed = false;
// A test's process leaves here why it was skipped; its parent reads it.
int reason_pipe[2];

const char *describe(Value value, char (&text)[64])
{
	const char *name = value.number < 0 && value.number > -4096
				   ? strerrorname_np(static_cast<int>(-value.number))
				   : nullptr;
	if (name)
		snprintf(text, sizeof text, "-%s", name);
	else if (value.number >= 0 && value.number < 10)
		snprintf(text, sizeof text, "%jd", intmax_t{value.number});
	else
		snprintf(text, sizeof text, "%jd (%#jx)", intmax_t{value.number},
			static_cast<uintmax_t>(value.number));
	return text;
}

// Runs one test in a child, in a process group that ends with it.
int run(const Test &test)
{
	pid_t child = fork();
	if (child < 0)
		return exit_failed;
	if (child == 0) {
		setpgid(0, 0);
		alarm(seconds_per_test);
		test.body();
		end_test();
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	kill(-child, SIGKILL);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	note("%s: %s", test.name,
		WTERMSIG(status) == SIGALRM ? "no end in sight" : strsignal(WTERMSIG(status)));
	return exit_failed;
}

bool chosen(const Test &test, char **names)
{
	if (!*names)
		return true;
	for (; *names; ++names)
		if (!strcmp(*names, test.name))
			return true;
	return false;
}

} // namespace

Test::Test(const char *test_name, void (*test_body)()) : name(test_name), body(test_body)
{
	*last = this;
	last = &next;
}

void report_failure(const char *file, int line, const char *condition)
{
	note("%s:%d: not so: %s", file, line, condition);
	failed = true;
}

void report_difference(
	const char *file, int line, const char *expression, Value actual, Value expected)
{
	char actually[64], expectedly[64];
	note("%s:%d: %s is %s, not %s", file, line, expression, describe(actual, actually),
		describe(expected, expectedly));
	failed = true;
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

void end_test()
{
	_exit(failed ? exit_failed : exit_passed);
}

void skip_test(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vdprintf(reason_pipe[1], format, arguments);
	va_end(arguments);
	_exit(failed ? exit_failed : exit_skipped);
}

int run_all(char **names)
{
	unsigned count = 0, failures = 0, skips = 0;
	for (Test *test = first; test; test = test->next)
		count += chosen(*test, names);
	printf("TAP version 13\n1..%u\n", count);

	unsigned number = 0;
	for (Test *test = first; test; test = test->next) {
		if (!chosen(*test, names))
			continue;
		fflush(stdout);
		int status = run(*test);
		char reason[200] = "";
		if (ssize_t size = read(reason_pipe[0], reason, sizeof reason - 1); size >= 0)
			reason[size] = '\0';
		printf("%s %u - %s%s%s\n",
			status == exit_passed || status == exit_skipped ? "ok" : "not ok", ++number,
			test->name, status == exit_skipped ? " # SKIP " : "", reason);
		failures += status != exit_passed && status != exit_skipped;
		skips += status == exit_skipped;
	}
	return failures ? exit_failed : skips == count ? exit_skipped : exit_passed;
}

} // namespace kvmpp::selftests

int main(int argc, char **argv)
{
	using namespace kvmpp::selftests;
	if (argc > 1)
		device = argv[1];
	int fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		printf("TAP version 13\n1..0 # SKIP %s: %s\n", device, strerror(errno));
		return exit_skipped;
	}
	close(fd);
	if (pipe2(reason_pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
		perror("pipe2");
		return exit_failed;
	}
	return run_all(argv + (argc > 1 ? 2 : 1));
}
