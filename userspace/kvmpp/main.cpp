// SPDX-License-Identifier: GPL-2.0-only
// The command `kvmpp`: finds the sub-command and turns what it throws into a line and a status.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string_view>
#include "kvmpp/commands.h"
#include "kvmpp/exit_status.h"
#include "kvmpp/options.h"
#include "uapi/kvmpp.h"

namespace
{

using namespace kvmpp::command;

struct Command {
	std::string_view name;
	const char *help;
	int (*function)(std::span<const char *const>);
};

constexpr Command commands[] = {
	{"run", "boot a Linux kernel with its serial console here", run},
	{"status", "what VT-x offers here, and whether the module is or would be loaded", status},
	{"bench", "measure the operations of a KVM device, or compare two", bench},
};

void print_help()
{
	std::puts("usage: kvmpp COMMAND [option...]\n");
	for (const Command &command : commands)
		std::printf("  %-8s %s\n", command.name.data(), command.help);
	std::puts("\nkvmpp COMMAND --help explains each; kvmpp --version");
}

int dispatch(std::span<const char *const> arguments)
{
	if (arguments.empty())
		throw Misuse{"which command? kvmpp --help lists them"};
	const std::string_view name = arguments.front();
	if (name == "--help") {
		print_help();
		return exit_ok;
	}
	if (name == "--version") {
		std::puts("kvmpp " KVMPP_VERSION);
		return exit_ok;
	}
	const auto command = std::ranges::find(commands, name, &Command::name);
	if (command == std::end(commands))
		throw Misuse{
			"there is no command '" + std::string{name} + "'; kvmpp --help lists them"};
	return command->function(arguments.subspan(1));
}

} // namespace

int main(int count, char **arguments)
try {
	return dispatch(std::span{
		const_cast<const char *const *>(arguments), static_cast<std::size_t>(count)}
				.subspan(count > 0 ? 1 : 0));
} catch (const Misuse &error) {
	std::fprintf(stderr, "kvmpp: %s\n", error.what());
	return exit_misuse;
} catch (const std::exception &error) {
	std::fprintf(stderr, "kvmpp: %s\n", error.what());
	return exit_error;
}
