// SPDX-License-Identifier: GPL-2.0-only
// What the command's exit status means. 4 is left out: to a test runner it says "skipped".
#pragma once

namespace kvmpp::command
{

enum ExitStatus : int {
	exit_ok = 0,	 // for `run`: the guest powered off
	exit_error = 1,	 // what was asked for could not be done; one line says why
	exit_misuse = 2, // the command line is wrong
	exit_reset = 10, // the guest asked for a reset
	exit_triple_fault = 11,
	exit_failure = 12, // KVM could not go on: a failed entry, an internal error
	exit_quit = 13,	   // Ctrl-A x
};

} // namespace kvmpp::command
