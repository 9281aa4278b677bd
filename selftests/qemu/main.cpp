// SPDX-License-Identifier: GPL-2.0-only
// drive_qemu short|long DISK pci|mmio QEMU OPTION...: boots Linux as a guest of QEMU and does what
// users of virtual machines do. In a short session that is devices, processors and time; in a long
// one also snapshots, migration, a debugger and a reboot.
#include "steps.h"
#include "step.h"

#include <csignal>
#include <cstdio>
#include <cstring>

using namespace kvmpp::qemu;

namespace
{

void use_devices(Machine &machine, unsigned network_mib)
{
	boots(machine);
	gives_random_numbers(machine);
	moves_network_data(machine, network_mib);
	knows_the_date(machine);
	keeps_time(machine, "its clock and the host's agree");
	computes(machine, "both processors compute at once");
	interrupts_itself(machine, "its processors interrupt each other");
}

void short_session(const Hardware &hardware)
{
	Machine machine{hardware, {"-no-reboot"}};
	use_devices(machine, 1);
	shares_sectors(machine, hardware);
	has_file_system(machine);
	has_no_complaints(machine);
	powers_off(machine);
}

void long_session(const Hardware &hardware)
{
	{
		Machine source{hardware};
		use_devices(source, 10);
		has_file_system(source);
		begins_to_keep(source);
		stops_and_continues(source);
		returns_to_snapshot(source);
		leaves(source);
	}
	std::vector<std::string> options = arriving(), more = debuggable();
	options.insert(options.end(), more.begin(), more.end());
	Machine machine{hardware, options};
	arrives(machine);
	has_kept(machine);
	keeps_time(machine, "its clock goes on as before");
	computes(machine, "both processors compute there");
	interrupts_itself(machine, "its processors interrupt each other there");
	is_debugged(machine);
	has_no_complaints(machine);
	reboots(machine);
	powers_off(machine);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: drive_qemu short|long DISK pci|mmio QEMU OPTION...\n");
		return 1;
	}
	// Who reads no more is found out by writing.
	signal(SIGPIPE, SIG_IGN);
	bool whole = !strcmp(argv[1], "long");
	Hardware hardware{
		{argv + 4, argv + argc}, !strcmp(argv[3], "pci"), argv[2], whole ? "qcow2" : "raw"};
	printf("TAP version 13\n");
	if (whole)
		long_session(hardware);
	else
		short_session(hardware);
	end_of_steps();
}
