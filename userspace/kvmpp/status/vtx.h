// SPDX-License-Identifier: GPL-2.0-only
// What the processors' VT-x offers, and what the module would make of it. The judgement is the
// module's own: vmx/capabilities.cpp, compiled into this command.
#pragma once

#include <string>
#include <vector>
#include "kvmpp/status/host_files.h"

namespace kvmpp::command
{

struct VtxReport {
	std::string source;		   // where the facts are from
	std::vector<std::string> features; // those that are there, by the SDM's names
	std::string missing;		   // what the module cannot do without; empty if nothing
	bool certain = true;		   // not when the source does not tell everything
};

VtxReport examine_vtx(const HostFiles &files);

} // namespace kvmpp::command
