// SPDX-License-Identifier: GPL-2.0-only
// Waiting, and moving bytes between the user and the serial line.
#include "kvmpp/run/console.h"

#include <array>
#include <csignal>
#include <initializer_list>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

using lib::u64;
using lib::u8;

namespace
{

constexpr std::size_t buffer_size = 4096;
constexpr long flush_delay = 5'000'000; // nanoseconds: nobody sees it
constexpr u8 escape = 'A' & 0x1f;	// Ctrl-A
constexpr u8 quit_key = 'x';

sigset_t answered_signals()
{
	sigset_t set;
	sigemptyset(&set);
	for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP})
		sigaddset(&set, signal);
	return set;
}

lib::FileDescriptor checked(int number, const char *what)
{
	if (number < 0)
		throw Refusal{lib::Error{what, errno}.message()};
	return lib::FileDescriptor{number};
}

} // namespace

Console::Console() : ended_{checked(::eventfd(0, EFD_CLOEXEC), "eventfd")}
{
	const sigset_t signals = answered_signals();
	::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
	::signal(SIGPIPE, SIG_IGN);
	signals_ = checked(::signalfd(-1, &signals, SFD_CLOEXEC), "signalfd");
	flush_timer_ = checked(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd");
	pending_.reserve(buffer_size);
}

Console::~Console()
{
	flush();
}

void Console::send(u8 byte)
{
	const std::lock_guard guard{lock_};
	pending_.push_back(byte);
	if (pending_.size() >= buffer_size) {
		flush_locked();
	} else if (pending_.size() == 1) {
		const itimerspec once{.it_interval = {}, .it_value = {0, flush_delay}};
		::timerfd_settime(flush_timer_.number(), 0, &once, nullptr);
	}
}

void Console::flush()
{
	const std::lock_guard guard{lock_};
	flush_locked();
}

void Console::flush_locked()
{
	std::span<const u8> rest = pending_;
	while (!rest.empty()) {
		const auto count = ::write(STDOUT_FILENO, rest.data(), rest.size());
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN) {
			pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
			::poll(&output, 1, -1);
			continue;
		}
		if (count <= 0)
			break; // nobody reads any more; the guest goes on
		rest = rest.subspan(static_cast<std::size_t>(count));
	}
	pending_.clear();
}

void Console::machine_ended()
{
	::eventfd_write(ended_.number(), 1);
}

std::optional<Console::Event> Console::take_signal()
{
	signalfd_siginfo information;
	if (::read(signals_.number(), &information, sizeof(information)) != sizeof(information))
		return {};
	if (information.ssi_signo == SIGTSTP) {
		terminal_.leave();
		::raise(SIGSTOP);
		terminal_.enter();
		return {};
	}
	return Event{Event::Kind::signal, static_cast<int>(information.ssi_signo)};
}

bool Console::read_input(const Guest &guest)
{
	std::array<u8, 256> typed;
	const auto count = ::read(STDIN_FILENO, typed.data(), std::min(typed.size(), guest.room()));
	if (count <= 0) {
		input_open_ = count < 0 && (errno == EINTR || errno == EAGAIN);
		return false;
	}
	std::vector<u8> meant;
	for (const u8 byte : std::span{typed}.first(static_cast<std::size_t>(count))) {
		if (escaped_ && byte == quit_key)
			return true;
		// Ctrl-A twice sends it once.
		const bool begins_escape = byte == escape && !escaped_;
		if (!begins_escape)
			meant.push_back(byte);
		escaped_ = begins_escape;
	}
	guest.receive(meant);
	return false;
}

Console::Event Console::wait(const Guest &guest)
{
	for (;;) {
		// Input that the guest has no room for yet is left where it is, and looked at again
		// after a while: rare enough not to deserve a wake-up from the serial port.
		constexpr int retry_milliseconds = 100;
		const bool full = input_open_ && guest.room() == 0;
		const bool listen = input_open_ && !full;
		std::array<pollfd, 4> waited{{
			{.fd = ended_.number(), .events = POLLIN, .revents = 0},
			{.fd = signals_.number(), .events = POLLIN, .revents = 0},
			{.fd = flush_timer_.number(), .events = POLLIN, .revents = 0},
			{.fd = listen ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0},
		}};
		if (::poll(waited.data(), waited.size(), full ? retry_milliseconds : -1) < 0)
			continue;
		if (waited[2].revents) {
			u64 expirations;
			if (::read(flush_timer_.number(), &expirations, sizeof(expirations)) > 0)
				flush();
		}
		if (waited[3].revents && read_input(guest))
			return {Event::Kind::quit};
		if (waited[1].revents) {
			if (const auto event = take_signal())
				return *event;
		}
		if (waited[0].revents)
			return {Event::Kind::machine_ended};
	}
}

} // namespace kvmpp::command
