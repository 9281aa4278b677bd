// SPDX-License-Identifier: GPL-2.0-only
#include "qmp.h"
#include "deadline.h"
#include "step.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

constexpr double patience = 120;

int connection(Process &qemu, const std::string &path)
{
	sockaddr_un address{AF_UNIX, ""};
	path.copy(address.sun_path, sizeof address.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("no socket");
	Deadline deadline{patience};
	while (connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) < 0) {
		if (deadline.passed() || qemu.ended())
			fail("QEMU does not listen at %s", path.c_str());
		usleep(100'000);
	}
	return fd;
}

bool has(std::string_view text, std::string_view words)
{
	return text.find(words) != text.npos;
}

} // namespace

Qmp::Qmp(Process &qemu, const std::string &socket_path)
{
	int fd = connection(qemu, socket_path);
	stream_ = std::make_unique<Stream>(fd, fd);
	command("qmp_capabilities");
}

std::string Qmp::command(const char *name, const std::string &arguments)
{
	stream_->send(
		std::string{"{\"execute\": \""} + name + "\", \"arguments\": " + arguments + "}\n");
	Deadline deadline{patience};
	for (;;) {
		auto line = stream_->line(deadline.milliseconds_left() / 1000.0);
		if (!line)
			fail("no answer to %s", name);
		if (has(*line, "\"event\":"))
			events_.push_back(*line);
		else if (has(*line, "{\"return\":"))
			return *line;
		else if (has(*line, "{\"error\":"))
			fail("%s: %s", name, line->c_str());
	}
}

void Qmp::human(const std::string &line)
{
	std::string answer =
		command("human-monitor-command", "{\"command-line\": \"" + line + "\"}");
	if (!has(answer, "{\"return\": \"\"}"))
		fail("%s: %s", line.c_str(), answer.c_str());
}

bool Qmp::had(const char *event)
{
	std::string words = std::string{"\"event\": \""} + event + '"';
	return std::erase_if(events_, [&](const std::string &line) { return has(line, words); });
}

void Qmp::wait_for(const char *event, double seconds)
{
	Deadline deadline{seconds};
	while (!had(event)) {
		auto line = stream_->line(deadline.milliseconds_left() / 1000.0);
		if (!line)
			fail("no event %s within %.0f s", event, seconds);
		events_.push_back(*line);
	}
}

void Qmp::until(const char *name, const char *words, double seconds)
{
	Deadline deadline{seconds};
	for (;;) {
		std::string answer = command(name);
		if (has(answer, words))
			return;
		if (has(answer, "\"failed\"") || deadline.passed())
			fail("%s: %s", name, answer.c_str());
		usleep(200'000);
	}
}

} // namespace kvmpp::qemu
