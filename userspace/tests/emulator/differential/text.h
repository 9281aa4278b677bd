// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace kvmpp::x86::emulator::differential
{

// printf into a string.
__attribute__((format(printf, 1, 2))) inline std::string formatted(const char *format, ...)
{
	char text[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return text;
}

} // namespace kvmpp::x86::emulator::differential
