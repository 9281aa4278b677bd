// SPDX-License-Identifier: GPL-2.0-only
// QEMU with a guest whose first process runs what comes over the serial line
// (testhost/guest/commands).
#pragma once

#include <string>
#include <vector>
#include "process.h"
#include "qmp.h"

namespace kvmpp::qemu
{

// What all QEMUs of a session are called with.
struct Hardware {
	// QEMU and the options that say which machine.
	std::vector<std::string> command;
	// The bus of its virtio devices: virtio-blk-pci or virtio-blk-device.
	bool pci;
	std::string disk, disk_format;
};

constexpr unsigned guest_processors = 2;
constexpr const char *guest_memory = "256";

class Machine {
public:
	Machine(const Hardware &hardware, const std::vector<std::string> &more = {});

	Qmp &qmp() { return *qmp_; }

	// Until the guest says that it is ready.
	void wait_for_guest();

	// Runs a command in the guest; what it said. That it fails ends the step.
	std::string ask(const std::string &command, double seconds = 120);

	// The same in two halves.
	void begin(const std::string &command);
	std::string answer(double seconds = 120);

	// Does nothing come from the guest for so long?
	bool silent(double seconds);

	// Of QEMU, which has been told to go.
	int exit_status(double seconds = 60) { return process_.exit_status(seconds); }

private:
	Process process_;
	std::unique_ptr<Qmp> qmp_;
};

} // namespace kvmpp::qemu
