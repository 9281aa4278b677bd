// SPDX-License-Identifier: GPL-2.0-only
// The user's end of the serial line, and the thread of the program that waits for everything:
// input, signals, and the end of the machine.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>
#include "kvmpp/run/terminal.h"
#include "lib/file_descriptor.h"
#include "lib/types.h"

namespace kvmpp::command
{

class Console {
public:
	// The line's other end: how many bytes it takes now, and taking them.
	struct Guest {
		std::function<std::size_t()> room;
		std::function<void(std::span<const lib::u8>)> receive;
	};

	// What ended the wait.
	struct Event {
		enum class Kind { machine_ended, quit, signal } kind;
		int signal = 0;
	};

	// Blocks the signals that wait() answers, for threads made later too.
	Console();
	~Console();

	// From the vCPUs' threads. A byte is shown within a few milliseconds, together with those
	// that come by then: a write for each would cost more than the guest's own work.
	void send(lib::u8 byte);
	void machine_ended();

	Event wait(const Guest &guest);
	void flush();

private:
	std::optional<Event> take_signal();
	bool read_input(const Guest &guest); // true: the user wants to quit
	void flush_locked();

	RawTerminal terminal_;
	lib::FileDescriptor ended_, signals_, flush_timer_;
	bool input_open_ = true;
	bool escaped_ = false; // Ctrl-A was the last byte typed

	std::mutex lock_;
	std::vector<lib::u8> pending_;
};

} // namespace kvmpp::command
