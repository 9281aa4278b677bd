// SPDX-License-Identifier: GPL-2.0-only
// The kernel log of the simulated host: standard error, unless a test listens.
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include "sim/host.h"
#include "host/seam.h"

namespace kvmpp::sim
{
namespace
{

std::mutex lock;
std::string *listener = nullptr;

} // namespace

LogCapture::LogCapture()
{
	std::lock_guard guard{lock};
	before_ = listener;
	listener = &text_;
}

LogCapture::~LogCapture()
{
	std::lock_guard guard{lock};
	listener = before_;
}

std::string LogCapture::text() const
{
	std::lock_guard guard{lock};
	return text_;
}

} // namespace kvmpp::sim

void kvmpp_log(kvmpp_log_level level, const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	std::vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	std::lock_guard guard{kvmpp::sim::lock};
	if (kvmpp::sim::listener)
		*kvmpp::sim::listener += std::string{line} + "\n";
	else
		std::fprintf(stderr, "%s%s\n", level == KVMPP_LOG_ERROR ? "kvmpp: error: " : "kvmpp: ", line);
}

void kvmpp_format(char *to, size_t size, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	std::vsnprintf(to, size, format, arguments);
	va_end(arguments);
}
