// SPDX-License-Identifier: GPL-2.0-only
// How the command gives up: one line for the user, thrown to main.
#pragma once

#include <stdexcept>
#include <string>
#include "lib/error.h"

namespace kvmpp::command
{

// Something that was asked for cannot be done.
struct Refusal : std::runtime_error {
	using std::runtime_error::runtime_error;
};

// The value of a library call without which the command cannot go on.
template <class T>
T need(lib::Result<T> result)
{
	if (!result)
		throw Refusal{result.error().message()};
	return lib::detail::take(result);
}

} // namespace kvmpp::command
