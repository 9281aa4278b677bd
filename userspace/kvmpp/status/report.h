// SPDX-License-Identifier: GPL-2.0-only
// What `kvmpp status` says, line by line, from what the host's files say.
#pragma once

#include <string>
#include <vector>
#include "kvmpp/status/host_files.h"
#include "kvmpp/status/vtx.h"

namespace kvmpp::command
{

struct Line {
	std::string subject, text;
};

struct Status {
	std::vector<Line> lines;
	bool usable; // the module is loaded, or nothing is known that would keep it from loading
};

Status report(const HostFiles &files, const VtxReport &vtx);

} // namespace kvmpp::command
