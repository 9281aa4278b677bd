// SPDX-License-Identifier: GPL-2.0-only
#include "load.h"
#include "step.h"
#include "steps.h"

#include <cstdio>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

constexpr unsigned rounds = 3'000'000, interrupts = 300;

// Rounds of the guest's keeper on each processor, which has found nothing wrong.
struct Tally {
	unsigned rounds[2];
};

Tally look_at_tally(Machine &machine)
{
	Tally tally{};
	std::string said = machine.ask("in_guest tally /tmp/tally");
	size_t at = said.find("tally ");
	EXPECT(at != said.npos);
	EXPECT(sscanf(said.c_str() + at, "tally %u %u", &tally.rounds[0], &tally.rounds[1]) == 2);
	return tally;
}

} // namespace

void computes(Machine &machine, const char *name)
{
	Step step{name};
	std::string said = machine.ask("in_guest compute " + std::to_string(rounds));
	char expected[64];
	snprintf(expected, sizeof expected, "computed %016jx ", std::uintmax_t{compute(rounds)});
	EXPECT(said.find(expected) != said.npos);
}

void interrupts_itself(Machine &machine, const char *name)
{
	Step step{name};
	machine.ask("in_guest interrupt " + std::to_string(interrupts));
}

void begins_to_keep(Machine &machine)
{
	Step step{"programs on both processors rewrite memory and check it"};
	machine.ask("{ in_guest keep /tmp/tally 2; echo it ended with $?; } & sleep 1");
	has_kept(machine);
}

void has_kept(Machine &machine)
{
	Tally before = look_at_tally(machine);
	for (int tries = 0; tries < 15; ++tries) {
		sleep(1);
		Tally now = look_at_tally(machine);
		if (now.rounds[0] > before.rounds[0] + 1 && now.rounds[1] > before.rounds[1] + 1)
			return;
	}
	machine.ask("in_guest clocks; grep LOC /proc/interrupts; ps | grep in_guest; dmesg | tail "
		    "-n 5");
	fail("one of them does not go on");
}

} // namespace kvmpp::qemu
