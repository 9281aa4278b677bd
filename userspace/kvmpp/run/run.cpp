// SPDX-License-Identifier: GPL-2.0-only
// `kvmpp run`: boots a Linux kernel with its serial console here.
#include <csignal>
#include <cstdio>
#include "kvmpp/commands.h"
#include "kvmpp/device.h"
#include "kvmpp/exit_status.h"
#include "kvmpp/options.h"
#include "kvmpp/run/console.h"
#include "kvmpp/run/guest.h"

namespace kvmpp::command
{

using lib::u64;
using lib::u8;

namespace
{

constexpr u64 memory_unit = 2 << 20; // of the huge pages behind it
constexpr unsigned most_cpus = 254;  // each has an 8-bit APIC ID, and so has the IOAPIC

struct RunOptions {
	std::string kernel, initrd;
	std::string append = "console=ttyS0";
	std::string device = default_device();
	u64 memory = 256 << 20;
	unsigned cpus = 1;
	bool help = false;
};

u64 memory_from(const std::string &text)
{
	constexpr u64 most = u64{1} << 40;
	const u64 size = size_from("memory", text);
	if (size == 0 || size % memory_unit || size > most)
		throw Misuse{"--memory takes a multiple of 2M up to 1024G, not " + text};
	return size;
}

std::vector<Option> table(RunOptions &options)
{
	const auto into = [](std::string &target) {
		return [&target](const std::string &value) { target = value; };
	};
	return {
		{"kernel", "FILE", "a bzImage for x86-64 (must be given)", into(options.kernel)},
		{"initrd", "FILE", "initial RAM disk", into(options.initrd)},
		{"append", "STRING", "the kernel's command line (console=ttyS0)",
			into(options.append)},
		{"memory", "SIZE", "a multiple of 2M (256M)",
			[&](const std::string &text) { options.memory = memory_from(text); }},
		{"cpus", "N", "virtual processors (1)",
			[&](const std::string &text) {
				options.cpus = number_from("cpus", text, 1, most_cpus);
			}},
		{"device", "PATH", "the KVM device (/dev/kvmpp, unless there is only /dev/kvm)",
			into(options.device)},
		{"help", "", "this text", [&](const std::string &) { options.help = true; }},
	};
}

void print_help(std::span<const Option> table)
{
	std::printf("usage: kvmpp run --kernel FILE [option...]\n\n"
		    "Boots a Linux kernel; its serial console is on standard input and output.\n"
		    "Ctrl-A x ends it, Ctrl-A Ctrl-A sends one Ctrl-A.\n\n%s\n"
		    "exit status: %d powered off, %d error, %d wrong usage, %d reset,\n"
		    "%d triple fault, %d KVM failed, %d Ctrl-A x\n",
		describe(table).c_str(), exit_ok, exit_error, exit_misuse, exit_reset,
		exit_triple_fault, exit_failure, exit_quit);
}

BootRequest request_from(const RunOptions &options)
{
	if (options.kernel.empty())
		throw Misuse{"run needs --kernel; --help explains"};
	return {
		.kernel = KernelImage{options.kernel},
		.initrd = options.initrd.empty() ? std::optional<InputFile>{}
						 : InputFile{options.initrd},
		.command_line = options.append,
		.memory = options.memory,
		.cpus = options.cpus,
	};
}

// As if the signal had not been answered: to the caller, the command died of it.
[[noreturn]] void die_of(int signal)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signal);
	::signal(signal, SIG_DFL);
	::raise(signal);
	::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
	std::abort();
}

struct Ending {
	Outcome outcome;
	int signal; // that was sent to the command, or 0
};

// The terminal is the user's own again when this returns.
Ending boot(const lib::System &system, const BootRequest &request)
{
	Console console;
	Guest guest{system, request,
		{
			.send = [&](u8 byte) { console.send(byte); },
			.ended = [&] { console.machine_ended(); },
		}};
	Platform &platform = guest.platform();
	guest.start();
	const Console::Event event = console.wait({
		.room = [&] { return platform.receive_room(); },
		.receive = [&](std::span<const u8> bytes) { platform.receive(bytes); },
	});
	return {guest.stop({exit_quit, {}}), event.signal};
}

} // namespace

int run(std::span<const char *const> arguments)
{
	RunOptions options;
	const std::vector<Option> options_table = table(options);
	if (const auto others = parse(options_table, arguments); !others.empty())
		throw Misuse{"run takes options only, not '" + others.front() + "'"};
	if (options.help) {
		print_help(options_table);
		return exit_ok;
	}

	const BootRequest request = request_from(options);
	const Ending ending = boot(open_device(options.device), request);
	if (ending.signal)
		die_of(ending.signal);
	if (!ending.outcome.message.empty())
		std::fprintf(stderr, "kvmpp: %s\n", ending.outcome.message.c_str());
	return ending.outcome.status;
}

} // namespace kvmpp::command
