// SPDX-License-Identifier: GPL-2.0-only
// `kvmpp bench`: what a device's operations cost, alone or beside another's.
#include <cstdio>
#include <fstream>
#include <sys/stat.h>
#include "kvmpp/bench/operations.h"
#include "kvmpp/commands.h"
#include "kvmpp/device.h"
#include "kvmpp/exit_status.h"
#include "kvmpp/options.h"

namespace kvmpp::command
{

namespace
{

struct BenchOptions {
	std::vector<std::string> devices, only;
	bool compare = false, help = false;
};

std::vector<Option> table(BenchOptions &options)
{
	const auto onto = [](std::vector<std::string> &list) {
		return [&list](const std::string &value) { list.push_back(value); };
	};
	return {
		{"device", "PATH",
			"the KVM device (/dev/kvmpp, unless there is only /dev/kvm); two are "
			"compared",
			onto(options.devices)},
		{"only", "KEY", "measure this operation; may be repeated", onto(options.only)},
		{"compare", "",
			"two devices or files of results follow: print both and their ratio",
			[&](const std::string &) { options.compare = true; }},
		{"help", "", "this text", [&](const std::string &) { options.help = true; }},
	};
}

void print_help(std::span<const Option> table)
{
	std::printf(
		"usage: kvmpp bench [option...]\n"
		"       kvmpp bench --compare A B\n\n"
		"Measures operations of a KVM device, in ticks of the time-stamp counter: the\n"
		"median of several batches. Prints a line for each: its key, the ticks (or - if\n"
		"it cannot be measured), what it is, and why it cannot be measured; between\n"
		"them one tab.\n\n%s",
		describe(table).c_str());
}

bool is_device(const std::string &path)
{
	struct stat status;
	return ::stat(path.c_str(), &status) == 0 && S_ISCHR(status.st_mode);
}

Results measure(const std::string &device, const std::vector<std::string> &only, bool print)
{
	const lib::System system = open_device(device);
	return {device, measure_all(system, only, [=](const Measurement &measurement) {
			if (!print)
				return;
			std::printf("%s\n", line_of(measurement).c_str());
			std::fflush(stdout);
		})};
}

Results results_of(const std::string &source, const std::vector<std::string> &only)
{
	if (is_device(source))
		return measure(source, only, false);
	std::ifstream file{source};
	if (!file)
		throw Refusal{lib::Error{source, errno}.message()};
	return parse_results(source, file);
}

} // namespace

int bench(std::span<const char *const> arguments)
{
	BenchOptions options;
	const std::vector<Option> options_table = table(options);
	std::vector<std::string> sources = parse(options_table, arguments);
	if (options.help) {
		print_help(options_table);
		return exit_ok;
	}
	if (!options.compare && !sources.empty())
		throw Misuse{"bench takes options only, not '" + sources.front() + "'"};
	if (options.devices.size() == 2) {
		options.compare = true;
		sources.insert(sources.begin(), options.devices.begin(), options.devices.end());
	}
	if (options.compare && sources.size() != 2)
		throw Misuse{"a comparison takes two devices or files"};

	if (options.compare) {
		const Results first = results_of(sources[0], options.only);
		const Results second = results_of(sources[1], options.only);
		std::fputs(comparison(first, second).c_str(), stdout);
		return exit_ok;
	}
	if (options.devices.size() > 1)
		throw Misuse{"at most two devices can be compared"};
	const std::string device =
		options.devices.empty() ? default_device() : options.devices.front();
	std::printf("# kvmpp bench of %s\n", device.c_str());
	measure(device, options.only, true);
	return exit_ok;
}

} // namespace kvmpp::command
