// SPDX-License-Identifier: GPL-2.0-only
// QEMU's monitor. Answers stay text: what is asked of them is whether they have some words.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "process.h"

namespace kvmpp::qemu
{

class Qmp {
public:
	// As soon as that QEMU listens there.
	Qmp(Process &qemu, const std::string &socket_path);

	// Runs the command with those arguments, an object's text; its answer. An error ends the
	// step.
	std::string command(const char *name, const std::string &arguments = "{}");

	// A command of the human monitor. Whatever it says is an error.
	void human(const std::string &line);

	// Waits for this event, if it has not come already.
	void wait_for(const char *event, double seconds = 60);

	// Waits until the answer of a command has these words.
	void until(const char *command, const char *words, double seconds = 120);

private:
	bool had(const char *event);

	std::unique_ptr<Stream> stream_;
	std::vector<std::string> events_;
};

} // namespace kvmpp::qemu
