// SPDX-License-Identifier: GPL-2.0-only
// Numbers as people read them.
#pragma once

#include <charconv>
#include <string>
#include "lib/types.h"

namespace kvmpp::command
{

inline std::string hex(lib::u64 number)
{
	char digits[16];
	const auto end = std::to_chars(std::begin(digits), std::end(digits), number, 16).ptr;
	return "0x" + std::string(digits, end);
}

} // namespace kvmpp::command
