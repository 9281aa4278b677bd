// SPDX-License-Identifier: GPL-2.0-only
// What a bench found: as lines that programs read and as a table that people do.
//
// A line is "KEY<TAB>TICKS<TAB>DESCRIPTION", or "KEY<TAB>-<TAB>DESCRIPTION<TAB>REASON" for what
// could not be measured; lines that begin with # are comments. New keys may come, none changes its
// meaning.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>
#include "lib/types.h"

namespace kvmpp::command
{

struct Measurement {
	std::string key, description;
	std::optional<lib::u64> ticks;
	std::string reason; // without ticks: why
};

struct Results {
	std::string source; // a device or a file
	std::vector<Measurement> measurements;
};

std::string line_of(const Measurement &measurement);

// Throws a Refusal that names the line.
Results parse_results(const std::string &source, std::istream &lines);

// Markdown: each operation of either, and how the second compares to the first.
std::string comparison(const Results &first, const Results &second);

} // namespace kvmpp::command
