// SPDX-License-Identifier: GPL-2.0-only
// Terminal modes.
#include "kvmpp/run/terminal.h"

#include <csignal>
#include <initializer_list>
#include <termios.h>
#include <unistd.h>

namespace kvmpp::command
{

namespace
{

// For the handler of a crash, which can be given nothing.
constinit bool is_raw = false;
constinit termios original{};

void restore_and_die(int signal)
{
	::tcsetattr(STDIN_FILENO, TCSANOW, &original);
	::raise(signal); // with SA_RESETHAND: the default action, which ends the process
}

} // namespace

RawTerminal::RawTerminal()
{
	enter();
	if (!is_raw)
		return;
	struct sigaction action {};
	action.sa_handler = restore_and_die;
	action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
	for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
		::sigaction(signal, &action, nullptr);
}

RawTerminal::~RawTerminal()
{
	leave();
}

void RawTerminal::enter()
{
	if (is_raw || ::tcgetattr(STDIN_FILENO, &original) < 0)
		return;
	termios raw = original;
	::cfmakeraw(&raw);
	is_raw = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

void RawTerminal::leave()
{
	if (is_raw)
		::tcsetattr(STDIN_FILENO, TCSANOW, &original);
	is_raw = false;
}

} // namespace kvmpp::command
