// SPDX-License-Identifier: GPL-2.0-only
// in_guest COMMAND [ARGUMENT...]: exit status 0 when all was as it should be.
#include "in_guest.h"
#include "deadline.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <string_view>
#include <unistd.h>

using namespace kvmpp::qemu;

namespace kvmpp::qemu
{

void stay_on(unsigned cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) < 0)
		abort();
}

unsigned processors()
{
	return static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN));
}

} // namespace kvmpp::qemu

namespace
{

bool say_clocks()
{
	printf("clocks %.6f %.6f\n", seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_REALTIME));
	return true;
}

bool run(std::string_view command, char **arguments)
{
	auto number = [&](int i) { return strtoull(arguments[i], nullptr, 0); };
	auto pattern = [&](int i) { return Pattern{number(i), number(i + 1)}; };
	auto port = [&](int i) { return static_cast<std::uint16_t>(number(i)); };
	if (command == "clocks")
		return say_clocks();
	if (command == "write")
		return write_file(arguments[0], number(1), pattern(2));
	if (command == "read")
		return read_file(arguments[0], number(1), pattern(2));
	if (command == "send")
		return send_to(arguments[0], port(1), pattern(2));
	if (command == "receive")
		return receive_from(arguments[0], port(1), pattern(2));
	if (command == "compute")
		return compute_everywhere(static_cast<unsigned>(number(0)));
	if (command == "interrupt")
		return interrupt_each_other(static_cast<unsigned>(number(0)));
	if (command == "keep")
		return keep(arguments[0], static_cast<unsigned>(number(1)));
	if (command == "tally")
		return tally(arguments[0]);
	if (command == "call")
		return call_until(arguments[0]);
	return false;
}

} // namespace

int main(int argc, char **argv)
{
	// Only the driver calls this, and it knows how many arguments each takes.
	return argc > 1 && run(argv[1], argv + 2) ? 0 : 1;
}
