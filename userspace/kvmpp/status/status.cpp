// SPDX-License-Identifier: GPL-2.0-only
// `kvmpp status`: what this machine's VT-x offers, and how module and device stand.
#include <algorithm>
#include <cstdio>
#include "kvmpp/commands.h"
#include "kvmpp/exit_status.h"
#include "kvmpp/options.h"
#include "kvmpp/status/report.h"

namespace kvmpp::command
{

int status(std::span<const char *const> arguments)
{
	bool help = false;
	const std::vector<Option> table{
		{"help", "", "this text", [&](const std::string &) { help = true; }},
	};
	if (!parse(table, arguments).empty())
		throw Misuse{"status takes no arguments"};
	if (help) {
		std::printf(
			"usage: kvmpp status\n\n"
			"Tells what this machine's VT-x offers, whether the module is or would be "
			"loaded,\nwho holds VT-x, the devices' permissions, and the mitigations in "
			"force.\nRun as root, with the msr module loaded, it knows most.\n\n%s\n"
			"exit status: %d the module is loaded or would load, %d it would not\n",
			describe(table).c_str(), exit_ok, exit_error);
		return exit_ok;
	}

	const HostFiles files;
	const Status found = report(files, examine_vtx(files));
	std::size_t width = 0;
	for (const Line &line : found.lines)
		width = std::max(width, line.subject.size());
	for (const Line &line : found.lines)
		std::printf("%-*s  %s\n", static_cast<int>(width), line.subject.c_str(),
			line.text.c_str());
	return found.usable ? exit_ok : exit_error;
}

} // namespace kvmpp::command
