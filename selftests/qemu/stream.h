// SPDX-License-Identifier: GPL-2.0-only
// Lines from and to a descriptor: a serial line, QMP's socket, the output of a program.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kvmpp::qemu
{

class Stream {
public:
	// Each line that comes is shown behind this prefix, unless there is none. Owns the
	// descriptors.
	Stream(int in, int out, const char *prefix = nullptr);
	~Stream();
	Stream(const Stream &) = delete;
	Stream &operator=(const Stream &) = delete;

	void send(std::string_view text);

	// The next line, without its end. Nothing when none comes in time or the other end has
	// gone.
	std::optional<std::string> line(double seconds);

private:
	std::optional<std::string> buffered_line();

	int in_, out_;
	const char *prefix_;
	std::string buffer_;
};

} // namespace kvmpp::qemu
