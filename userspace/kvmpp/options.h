// SPDX-License-Identifier: GPL-2.0-only
// Command lines: a table of options for each of the commands, from which the help is made too.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>
#include "kvmpp/refusal.h"
#include "lib/types.h"

namespace kvmpp::command
{

// A command line that is wrong in itself.
struct Misuse : Refusal {
	using Refusal::Refusal;
};

struct Option {
	std::string_view name;	// without the dashes
	std::string_view value; // what the help calls its value; empty for an option without one
	std::string_view help;
	std::function<void(const std::string &)> apply;
};

// Applies the options in order; what is left over, in order too, is the answer. "--name value" and
// "--name=value" are the same.
std::vector<std::string> parse(
	std::span<const Option> options, std::span<const char *const> arguments);

std::string describe(std::span<const Option> options);

// A size in bytes from a number and K, M or G.
lib::u64 size_from(std::string_view option, const std::string &text);

unsigned number_from(
	std::string_view option, const std::string &text, unsigned least, unsigned most);

} // namespace kvmpp::command
