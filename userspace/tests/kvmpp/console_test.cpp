// SPDX-License-Identifier: GPL-2.0-only
// The console on a terminal of its own: in each test a child process has it.
#include <array>
#include <chrono>
#include <csignal>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <thread>
#include "kvmpp/run/console.h"

namespace kvmpp::command
{
namespace
{

// What the child does with its console; its exit status is the answer.
using Child = int (*)();

class OnTerminal {
public:
	explicit OnTerminal(Child child)
	{
		int master;
		child_ = ::forkpty(&master, nullptr, nullptr, nullptr);
		if (child_ == 0)
			::_exit(child());
		master_ = lib::FileDescriptor{master};
	}
	~OnTerminal()
	{
		if (child_ > 0) {
			::kill(child_, SIGKILL);
			::waitpid(child_, nullptr, 0);
		}
	}

	bool is_raw() const
	{
		termios modes;
		::tcgetattr(master_.number(), &modes);
		return !(modes.c_lflag & ICANON);
	}
	void type(std::string_view text) const
	{
		EXPECT_EQ(::write(master_.number(), text.data(), text.size()),
			static_cast<ssize_t>(text.size()));
	}
	// Everything that was shown until `wanted` has been.
	bool shows(std::string_view wanted)
	{
		while (shown_.find(wanted) == shown_.npos) {
			pollfd output{.fd = master_.number(), .events = POLLIN, .revents = 0};
			std::array<char, 256> data;
			if (::poll(&output, 1, 5000) <= 0)
				return false;
			const auto count = ::read(master_.number(), data.data(), data.size());
			if (count <= 0)
				return false;
			shown_.append(data.data(), static_cast<std::size_t>(count));
		}
		return true;
	}
	void send(int signal) const { ::kill(child_, signal); }
	int wait()
	{
		int status = 0;
		::waitpid(child_, &status, 0);
		child_ = -1;
		return status;
	}

private:
	pid_t child_;
	lib::FileDescriptor master_;
	std::string shown_;
};

void show(Console &console, std::string_view text)
{
	for (const char c : text)
		console.send(static_cast<lib::u8>(c));
}

// Echoes in brackets what reaches the guest, and answers why it ended.
int echo()
{
	Console console;
	show(console, "ready");
	const auto event = console.wait({
		.room = [] { return std::size_t{100}; },
		.receive =
			[&](std::span<const lib::u8> bytes) {
				show(console, "[");
				for (const lib::u8 byte : bytes)
					console.send(byte);
				show(console, "]");
			},
	});
	return static_cast<int>(event.kind) * 64 + event.signal;
}

constexpr int quit = static_cast<int>(Console::Event::Kind::quit) * 64;
constexpr int by_signal = static_cast<int>(Console::Event::Kind::signal) * 64;

TEST(Console, terminal_is_raw_meanwhile_and_restored_after_quitting)
{
	OnTerminal child{echo};
	ASSERT_TRUE(child.shows("ready"));
	EXPECT_TRUE(child.is_raw());
	child.type("a\003b"); // Ctrl-C is for the guest
	EXPECT_TRUE(child.shows("a\003b"));
	child.type("\001\001c");
	EXPECT_TRUE(child.shows("\001c"));
	child.type("\001");
	child.type("x");
	EXPECT_EQ(WEXITSTATUS(child.wait()), quit);
	EXPECT_FALSE(child.is_raw());
}

TEST(Console, a_signal_ends_the_wait_and_the_terminal_is_restored)
{
	for (const int signal : {SIGTERM, SIGHUP, SIGINT}) {
		OnTerminal child{echo};
		ASSERT_TRUE(child.shows("ready"));
		child.send(signal);
		EXPECT_EQ(WEXITSTATUS(child.wait()), by_signal + signal);
		EXPECT_FALSE(child.is_raw());
	}
}

TEST(Console, a_crash_restores_the_terminal)
{
	OnTerminal child{echo};
	ASSERT_TRUE(child.shows("ready"));
	child.send(SIGSEGV);
	const int status = child.wait();
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_FALSE(child.is_raw());
}

TEST(Console, stopping_gives_the_terminal_back_until_continued)
{
	OnTerminal child{echo};
	ASSERT_TRUE(child.shows("ready"));
	child.send(SIGTSTP);
	for (int i = 0; i < 500 && child.is_raw(); i++)
		std::this_thread::sleep_for(std::chrono::milliseconds{10});
	EXPECT_FALSE(child.is_raw());
	child.send(SIGCONT);
	for (int i = 0; i < 500 && !child.is_raw(); i++)
		std::this_thread::sleep_for(std::chrono::milliseconds{10});
	EXPECT_TRUE(child.is_raw());
}

TEST(Console, ends_when_the_machine_does_with_everything_shown)
{
	OnTerminal child{[] {
		Console console;
		show(console, "last words");
		std::thread machine{[&] { console.machine_ended(); }};
		const auto event = console.wait({[] { return std::size_t{1}; }, [](auto) {}});
		machine.join();
		return static_cast<int>(event.kind);
	}};
	EXPECT_TRUE(child.shows("last words"));
	EXPECT_EQ(WEXITSTATUS(child.wait()), 0);
}

} // namespace
} // namespace kvmpp::command
