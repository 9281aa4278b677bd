// SPDX-License-Identifier: GPL-2.0-only
#include "machine.h"
#include "deadline.h"
#include "step.h"

#include <cstdlib>

namespace kvmpp::qemu
{

namespace
{

const std::string end_mark = "command ended with ";
// Each QEMU has its own.
unsigned sockets = 0;

std::string socket_path()
{
	return "/tmp/qmp" + std::to_string(sockets);
}

std::vector<std::string> whole_command(
	const Hardware &hardware, const std::vector<std::string> &more)
{
	++sockets;
	std::string bus = hardware.pci ? "-pci" : "-device";
	std::vector<std::string> words = hardware.command;
	auto add = [&](const std::string &option, const std::string &value) {
		words.push_back(option);
		words.push_back(value);
	};
	add("-smp", std::to_string(guest_processors));
	add("-m", guest_memory);
	add("-serial", "stdio");
	add("-qmp", "unix:" + socket_path() + ",server=on,wait=off");
	// The guest's own self-tests of its cryptography would be most of the boot.
	add("-kernel", "guest-kernel");
	add("-initrd", "guest-commands");
	add("-append", "console=ttyS0,115200 panic=-1 cryptomgr.notests quiet");
	add("-drive", "if=none,id=disk,file=" + hardware.disk + ",format=" + hardware.disk_format);
	add("-device", "virtio-blk" + bus + ",drive=disk");
	add("-netdev", "user,id=net");
	add("-device", "virtio-net" + bus + ",netdev=net" + (hardware.pci ? ",romfile=" : ""));
	add("-object", "rng-random,id=random,filename=/dev/urandom");
	add("-device", "virtio-rng" + bus + ",rng=random");
	words.insert(words.end(), more.begin(), more.end());
	return words;
}

} // namespace

Machine::Machine(const Hardware &hardware, const std::vector<std::string> &more)
	: process_(whole_command(hardware, more), "guest| "), qmp_(new Qmp{process_, socket_path()})
{}

void Machine::wait_for_guest()
{
	Deadline deadline{240};
	for (;;) {
		auto line = process_.terminal().line(deadline.milliseconds_left() / 1000.0);
		if (!line)
			fail("the guest does not get ready");
		if (line->ends_with("guest is ready"))
			return;
	}
}

void Machine::begin(const std::string &command)
{
	process_.terminal().send(command + '\n');
}

std::string Machine::answer(double seconds)
{
	Deadline deadline{seconds};
	std::string said;
	for (;;) {
		auto line = process_.terminal().line(deadline.milliseconds_left() / 1000.0);
		if (!line)
			fail("no answer from the guest within %.0f s", seconds);
		if (line->starts_with(end_mark)) {
			if (*line != end_mark + "0")
				fail("the guest's %s", line->c_str());
			return said;
		}
		said += *line + '\n';
	}
}

std::string Machine::ask(const std::string &command, double seconds)
{
	begin(command);
	return answer(seconds);
}

bool Machine::silent(double seconds)
{
	return !process_.terminal().line(seconds);
}

} // namespace kvmpp::qemu
