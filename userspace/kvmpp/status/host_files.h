// SPDX-License-Identifier: GPL-2.0-only
// Files in which a host describes itself: /proc, /sys and device nodes, below a root that a test
// can make.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kvmpp::command
{

class HostFiles {
public:
	explicit HostFiles(std::filesystem::path root = "/") : root_{std::move(root)} {}

	std::filesystem::path path(const std::string &relative) const { return root_ / relative; }
	bool has(const std::string &relative) const;
	// The whole content without the last newline; nothing if it cannot be read.
	std::optional<std::string> text(const std::string &relative) const;
	// Names in a directory, sorted; none if there is no such directory.
	std::vector<std::string> names(const std::string &relative) const;
	// What follows "key<blanks>: " in the first such line of /proc/cpuinfo.
	std::string cpuinfo(const std::string &key) const;

private:
	std::filesystem::path root_;
};

} // namespace kvmpp::command
