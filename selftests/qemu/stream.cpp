// SPDX-License-Identifier: GPL-2.0-only
#include "stream.h"
#include "deadline.h"
#include "step.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <unistd.h>

namespace kvmpp::qemu
{

Stream::Stream(int in, int out, const char *prefix) : in_(in), out_(out), prefix_(prefix) {}

Stream::~Stream()
{
	close(in_);
	if (out_ != in_)
		close(out_);
}

void Stream::send(std::string_view text)
{
	while (!text.empty()) {
		ssize_t written = write(out_, text.data(), text.size());
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			fail("nobody reads any more: %s", strerror(errno));
		text.remove_prefix(static_cast<size_t>(written));
	}
}

std::optional<std::string> Stream::buffered_line()
{
	size_t end = buffer_.find('\n');
	if (end == std::string::npos)
		return {};
	std::string line = buffer_.substr(0, end);
	buffer_.erase(0, end + 1);
	// A terminal's carriage returns.
	std::erase(line, '\r');
	if (prefix_)
		printf("%s%s\n", prefix_, line.c_str());
	return line;
}

std::optional<std::string> Stream::line(double seconds)
{
	Deadline deadline{seconds};
	for (;;) {
		if (auto line = buffered_line())
			return line;
		pollfd ready{in_, POLLIN, 0};
		int found = poll(&ready, 1, deadline.milliseconds_left());
		if (found < 0 && errno == EINTR)
			continue;
		char bytes[4096];
		ssize_t count = found > 0 ? read(in_, bytes, sizeof bytes) : 0;
		if (count <= 0)
			return {};
		buffer_.append(bytes, static_cast<size_t>(count));
	}
}

} // namespace kvmpp::qemu
