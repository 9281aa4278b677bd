// SPDX-License-Identifier: GPL-2.0-only
#include "deadline.h"
#include "in_guest.h"
#include "load.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kvmpp::qemu
{

namespace
{

// How often processors have interrupted each other, by the kernel's count.
unsigned long interrupts_between_processors()
{
	unsigned long sum = 0;
	FILE *file = fopen("/proc/interrupts", "r");
	char line[512];
	while (file && fgets(line, sizeof line, file)) {
		char label[16];
		int at = 0;
		if (sscanf(line, " %15[A-Z]:%n", label, &at) != 1 ||
			(strcmp(label, "RES") && strcmp(label, "CAL")))
			continue;
		unsigned long count;
		for (int length; sscanf(line + at, "%lu%n", &count, &length) == 1; at += length)
			sum += count;
	}
	if (file)
		fclose(file);
	return sum;
}

// A word goes to and fro between two processors, one of which sleeps meanwhile.
bool wake_each_other(unsigned times)
{
	int there[2], back[2];
	if (pipe(there) < 0 || pipe(back) < 0)
		return false;
	std::thread other{[&] {
		stay_on(1);
		for (unsigned word = 0; read(there[0], &word, sizeof word) == sizeof word;) {
			++word;
			if (write(back[1], &word, sizeof word) != sizeof word)
				return;
		}
	}};
	stay_on(0);
	bool good = true;
	for (unsigned i = 0; good && i < times; ++i) {
		unsigned word = 2 * i;
		good = write(there[1], &word, sizeof word) == sizeof word &&
		       read(back[0], &word, sizeof word) == sizeof word && word == 2 * i + 1;
	}
	close(there[1]);
	other.join();
	return good;
}

long membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

// The kernel makes the other processor run a memory barrier, and waits for that.
bool fence_each_other(unsigned times)
{
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) < 0)
		return false;
	std::atomic<bool> done = false;
	std::atomic<unsigned long> turns = 0;
	std::thread other{[&] {
		stay_on(1);
		while (!done)
			++turns;
	}};
	stay_on(0);
	while (turns == 0)
		;
	bool good = true;
	for (unsigned i = 0; good && i < times; ++i)
		good = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
	done = true;
	other.join();
	return good;
}

// Again and again until `enough` interrupts have come: a processor may be awake when it is to be
// woken, and runs other programs as well, for whole slices of time. A lost interrupt hangs here.
bool counted(const char *what, bool (*interrupt)(unsigned), unsigned enough)
{
	unsigned long before = interrupts_between_processors(), came = 0;
	double began = now();
	bool good = true;
	for (double deadline = began + 20; good && came < enough && now() < deadline;) {
		good = interrupt(enough);
		came = interrupts_between_processors() - before;
	}
	printf("%s: %lu interrupts in %.2f s\n", what, came, now() - began);
	return good && came >= enough;
}

// Whether all came to the same result, and whether they worked at the same time.
struct Computation {
	bool alike, at_once;
};

Computation compute_once_everywhere(unsigned rounds)
{
	unsigned count = processors();
	std::vector<std::uint64_t> results(count);
	std::vector<double> times(count);
	std::vector<std::thread> threads;
	double began = now();
	for (unsigned cpu = 0; cpu < count; ++cpu) {
		threads.emplace_back([&, cpu] {
			stay_on(cpu);
			results[cpu] = compute(rounds);
			times[cpu] = seconds_of(CLOCK_THREAD_CPUTIME_ID);
		});
	}
	for (std::thread &thread : threads)
		thread.join();
	double took = now() - began, sum = 0;
	bool alike = true;
	for (unsigned cpu = 0; cpu < count; ++cpu) {
		sum += times[cpu];
		alike = alike && results[cpu] == results[0];
	}
	printf("computed %016jx on %u processors, which worked for %.2f s in %.2f s\n",
		std::uintmax_t{results[0]}, count, sum, took);
	// One after the other they would have needed all that time.
	return {alike, count > 1 && took < 0.8 * sum};
}

} // namespace

bool compute_everywhere(unsigned rounds)
{
	// Other programs may have held one of them up.
	for (int tries = 0; tries < 5; ++tries) {
		Computation computation = compute_once_everywhere(rounds);
		if (!computation.alike || computation.at_once)
			return computation.alike;
	}
	return false;
}

bool interrupt_each_other(unsigned enough)
{
	return counted("wakes", wake_each_other, enough) &
	       counted("fences", fence_each_other, enough);
}

} // namespace kvmpp::qemu
