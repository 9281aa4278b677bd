// SPDX-License-Identifier: GPL-2.0-only
// The user's terminal in raw mode, and back again however the program ends.
#pragma once

namespace kvmpp::command
{

// One at a time. Does nothing when standard input is not a terminal.
class RawTerminal {
public:
	RawTerminal();
	~RawTerminal();
	RawTerminal(const RawTerminal &) = delete;

	// For being stopped and continued.
	void leave();
	void enter();
};

} // namespace kvmpp::command
