// SPDX-License-Identifier: GPL-2.0-only
// Reading files of /proc and /sys, whose size is not known before.
#include "kvmpp/status/host_files.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace kvmpp::command
{

bool HostFiles::has(const std::string &relative) const
{
	std::error_code ignored;
	return std::filesystem::exists(path(relative), ignored);
}

std::optional<std::string> HostFiles::text(const std::string &relative) const
{
	std::ifstream file{path(relative)};
	if (!file)
		return {};
	std::string content{std::istreambuf_iterator{file}, {}};
	if (content.ends_with('\n'))
		content.pop_back();
	return content;
}

std::vector<std::string> HostFiles::names(const std::string &relative) const
{
	std::vector<std::string> names;
	std::error_code failure;
	for (const auto &entry : std::filesystem::directory_iterator{path(relative), failure})
		names.push_back(entry.path().filename());
	std::ranges::sort(names);
	return names;
}

std::string HostFiles::cpuinfo(const std::string &key) const
{
	std::istringstream lines{text("proc/cpuinfo").value_or("")};
	for (std::string line; std::getline(lines, line);) {
		const auto colon = line.find(':');
		const std::string name =
			line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
		if (colon != line.npos && name == key)
			return colon + 2 < line.size() ? line.substr(colon + 2) : "";
	}
	return {};
}

} // namespace kvmpp::command
