// SPDX-License-Identifier: GPL-2.0-only
// How the library reports failure: every call that can fail returns a Result, and none throws one.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <system_error>
#include <utility>

namespace kvmpp::lib
{

// What was attempted, in the ABI's own words ("KVM_CREATE_VM"), and the errno it ended with.
class [[nodiscard]] Error {
public:
	Error(std::string attempted, int number)
		: attempted_{std::move(attempted)}, code_{number, std::generic_category()}
	{}

	const std::string &attempted() const { return attempted_; }
	std::error_code code() const { return code_; }
	bool is(int number) const { return code_.value() == number; }
	std::string message() const { return attempted_ + ": " + code_.message(); }

private:
	std::string attempted_;
	std::error_code code_;
};

template <class T = void>
using Result = std::expected<T, Error>;

// To be called at once, while errno is that of the attempt.
inline std::unexpected<Error> failed(std::string attempted)
{
	const int number = errno;
	return std::unexpected{Error{std::move(attempted), number}};
}

namespace detail
{

template <class T>
T take(Result<T> &result)
{
	return std::move(*result);
}

inline void take(Result<> &) {}

} // namespace detail

} // namespace kvmpp::lib

// The value of a Result, or a return of its error from the function around.
#define LIBKVMPP_TRY(expression)                                                    \
	({                                                                          \
		auto libkvmpp_result = (expression);                                \
		if (!libkvmpp_result) [[unlikely]]                                  \
			return std::unexpected(std::move(libkvmpp_result.error())); \
		::kvmpp::lib::detail::take(libkvmpp_result);                        \
	})
