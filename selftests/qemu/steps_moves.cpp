// SPDX-License-Identifier: GPL-2.0-only
// The guest's state on its way into files and back.
#include "step.h"
#include "steps.h"

#include <sys/stat.h>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

constexpr const char *state_file = "/tmp/migration";

} // namespace

void returns_to_snapshot(Machine &machine)
{
	{
		Step step{"savevm saves it"};
		machine.ask("echo before >/tmp/when && echo before >/mnt/when && sync");
		machine.qmp().human("savevm proof");
		machine.ask("echo after >/tmp/when && echo after >/mnt/when && sync");
	}
	Step step{"loadvm brings its memory and its disk back to then"};
	machine.qmp().human("loadvm proof");
	std::string when = machine.ask("cat /tmp/when /mnt/when; umount /mnt;"
				       " mount -t ext2 /dev/vda /mnt && cat /mnt/when");
	EXPECT(when == "before\nbefore\nbefore\n");
	has_kept(machine);
}

void leaves(Machine &machine)
{
	Step step{"it migrates into a file while it runs"};
	Qmp &qmp = machine.qmp();
	// An emulated machine moves memory slowly.
	qmp.command("migrate-set-parameters", "{\"downtime-limit\": 5000}");
	qmp.command("migrate", std::string{"{\"uri\": \"exec:cat >"} + state_file + "\"}");
	qmp.until("query-migrate", "\"status\": \"completed\"");
	qmp.until("query-status", "\"status\": \"postmigrate\"");
	struct stat state {};
	EXPECT(stat(state_file, &state) == 0);
	note("%jd bytes", std::intmax_t{state.st_size});
	qmp.command("quit");
	EXPECT(machine.exit_status() == 0);
}

std::vector<std::string> arriving()
{
	return {"-incoming", std::string{"exec:cat "} + state_file};
}

void arrives(Machine &machine)
{
	Step step{"another QEMU takes it from there"};
	machine.qmp().until("query-status", "\"status\": \"running\"");
	// It takes a part of this machine's memory.
	unlink(state_file);
	EXPECT(machine.ask("cat /tmp/when") == "before\n");
}

} // namespace kvmpp::qemu
