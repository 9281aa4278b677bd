// SPDX-License-Identifier: GPL-2.0-only
// A program that runs beside this one, and no longer than it.
#pragma once

#include <string>
#include <vector>
#include <sys/types.h>
#include "stream.h"

namespace kvmpp::qemu
{

class Process {
public:
	// Its output is shown line by line, behind the prefix.
	Process(const std::vector<std::string> &command, const char *prefix);
	~Process();

	// Its standard input and output.
	Stream &terminal() { return *terminal_; }

	// Has it ended by itself?
	bool ended();

	// Its exit status, or the number of the signal that killed it and 128.
	int exit_status(double seconds);

private:
	pid_t pid_ = 0;
	int status_ = 0;
	Stream *terminal_;
};

} // namespace kvmpp::qemu
