// SPDX-License-Identifier: GPL-2.0-only
#include "deadline.h"
#include "step.h"
#include "steps.h"

#include <cmath>
#include <cstdio>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

// The guest's clocks, and when it looked at them: between these two.
struct Reading {
	double guest, guest_date, from, to, date;
};

Reading read_clocks(Machine &machine)
{
	Reading reading{};
	reading.from = now();
	std::string said = machine.ask("in_guest clocks");
	reading.to = now();
	reading.date = seconds_of(CLOCK_REALTIME);
	size_t at = said.find("clocks ");
	EXPECT(at != said.npos);
	EXPECT(sscanf(said.c_str() + at, "clocks %lf %lf", &reading.guest, &reading.guest_date) ==
		2);
	return reading;
}

} // namespace

void keeps_time(Machine &machine, const char *name)
{
	Step step{name};
	Reading first = read_clocks(machine);
	sleep(10);
	Reading last = read_clocks(machine);
	// What passed here is known but for the time that the two answers took.
	double passed = last.guest - first.guest;
	double least = last.from - first.to, most = last.to - first.from;
	note("%.3f s passed in the guest, between %.3f and %.3f s here", passed, least, most);
	EXPECT(most - least < 2);
	EXPECT(passed > least * 0.999);
	EXPECT(passed < most * 1.001);
}

void knows_the_date(Machine &machine)
{
	Step step{"it knows the date and time"};
	Reading reading = read_clocks(machine);
	note("it is %.1f s ahead", reading.guest_date - reading.date);
	// A real-time clock has whole seconds.
	EXPECT(std::abs(reading.guest_date - reading.date) < 3);
}

void stops_and_continues(Machine &machine)
{
	Step step{"QMP stops and continues it"};
	Reading before = read_clocks(machine);
	machine.qmp().command("stop");
	machine.qmp().wait_for("STOP");
	machine.begin("in_guest clocks");
	EXPECT(machine.silent(5));
	machine.qmp().until("query-status", "\"status\": \"paused\"");
	machine.qmp().command("cont");
	machine.qmp().wait_for("RESUME");
	machine.answer();
	// The paravirtual clock stands still meanwhile.
	Reading after = read_clocks(machine);
	double passed = after.guest - before.guest, here = after.to - before.from;
	note("%.3f s passed in the guest, %.3f s here", passed, here);
	EXPECT(passed > 0);
	EXPECT(passed < here - 4);
}

} // namespace kvmpp::qemu
