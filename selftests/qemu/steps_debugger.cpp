// SPDX-License-Identifier: GPL-2.0-only
// gdb at QEMU's stub. A program in the guest says where its code is.
#include "deadline.h"
#include "step.h"
#include "steps.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace kvmpp::qemu
{

namespace
{

constexpr const char *stub = "/tmp/gdb";
constexpr unsigned single_steps = 4;

// A program for gdb: the guest runs into a breakpoint of each kind at the function, and into a
// watchpoint on the datum. From the first it goes on in single steps. Each stop is a line `stop
// NAME ADDRESS`.
std::vector<std::string> program(std::uint64_t function, std::uint64_t datum)
{
	char where[32], what[64], code[32];
	snprintf(where, sizeof where, "*%#" PRIx64, function);
	snprintf(what, sizeof what, "*(unsigned long *)%#" PRIx64, datum);
	snprintf(code, sizeof code, "x/%ui $pc", single_steps + 2);
	std::vector<std::string> words{"./gdb", "-nx", "-batch"};
	auto run = [&](const std::string &command) {
		words.push_back("-ex");
		words.push_back(command);
	};
	auto stops = [&](const std::string &name) {
		run("printf \"stop " + name + " %#lx\\n\", (unsigned long)$pc");
	};
	run("set architecture i386:x86-64");
	run(std::string{"target remote "} + stub);
	run(std::string{"hbreak "} + where);
	run("continue");
	stops("hardware");
	run(code);
	for (unsigned i = 1; i <= single_steps; ++i) {
		run("stepi");
		stops("step" + std::to_string(i));
	}
	run("delete");
	run(std::string{"break "} + where);
	run("continue");
	stops("software");
	run("delete");
	run(std::string{"watch "} + what);
	run("continue");
	stops("watch");
	run("delete");
	run("detach");
	return words;
}

struct Stops {
	std::map<std::string, std::uint64_t> at;
	// Of the function's first instructions.
	std::vector<std::uint64_t> code;
	bool datum_changed = false;
};

Stops run_gdb(const std::vector<std::string> &command)
{
	Process gdb{command, "gdb| "};
	Stops stops;
	Deadline deadline{240};
	while (auto line = gdb.terminal().line(deadline.milliseconds_left() / 1000.0)) {
		char name[32];
		std::uint64_t address;
		if (sscanf(line->c_str(), "stop %31s %" SCNx64, name, &address) == 2)
			stops.at[name] = address;
		else if (line->starts_with("=> 0x") || line->starts_with("   0x"))
			stops.code.push_back(strtoull(line->c_str() + 3, nullptr, 16));
		else
			stops.datum_changed |= line->starts_with("New value");
	}
	EXPECT(gdb.exit_status(10) == 0);
	return stops;
}

} // namespace

std::vector<std::string> debuggable()
{
	return {"-gdb", std::string{"unix:"} + stub + ",server=on,wait=off"};
}

void is_debugged(Machine &machine)
{
	std::uint64_t function = 0, datum = 0;
	std::string said = machine.ask("in_guest call /tmp/enough & sleep 1");
	size_t at = said.find("function ");
	EXPECT(at != said.npos);
	EXPECT(sscanf(said.c_str() + at, "function %" SCNx64 " datum %" SCNx64, &function,
		       &datum) == 2);
	Stops stops;
	{
		Step step{"gdb stops it at a hardware breakpoint"};
		stops = run_gdb(program(function, datum));
		EXPECT(stops.at["hardware"] == function);
	}
	{
		Step step{"gdb goes on in single steps"};
		EXPECT(stops.code.size() == single_steps + 2);
		EXPECT(stops.code[0] == function);
		for (unsigned i = 1; i <= single_steps; ++i)
			EXPECT(stops.at["step" + std::to_string(i)] == stops.code[i]);
	}
	{
		Step step{"gdb stops it at a software breakpoint"};
		EXPECT(stops.at["software"] == function);
	}
	{
		Step step{"gdb stops it where it writes a datum"};
		// Behind the instruction that writes it, which the single steps came to.
		EXPECT(stops.at["watch"] == stops.code[single_steps + 1]);
		EXPECT(stops.datum_changed);
	}
	Step step{"it goes on when gdb has gone"};
	machine.ask("touch /tmp/enough; wait $!");
	has_kept(machine);
}

} // namespace kvmpp::qemu
