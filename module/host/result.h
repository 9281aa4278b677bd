// SPDX-License-Identifier: GPL-2.0-only
// What may fail returns Result; TRY hands a failure to the caller. Errno becomes an int at the api
// floor and nowhere else.
#pragma once

#include <expected>
#include <utility>
#include <linux/errno.h>

namespace kvmpp
{

// An errno of the UAPI, positive, by its own name: Errno{EINVAL}.
class [[nodiscard]] Errno {
    public:
	constexpr explicit Errno(int positive) : value_{positive} {}
	constexpr int value() const { return value_; }
	constexpr bool operator==(const Errno &) const = default;

    private:
	int value_;
};

template <class T = void>
using Result = std::expected<T, Errno>;

constexpr std::unexpected<Errno> fail(int positive_errno)
{
	return std::unexpected{Errno{positive_errno}};
}

// The seam's ints: 0 or a negative errno.
constexpr Result<> result_of(int negative_errno)
{
	if (negative_errno < 0)
		return fail(-negative_errno);
	return {};
}

template <class T, class E>
constexpr T take(std::expected<T, E> &result)
{
	return std::move(*result);
}

template <class E>
constexpr void take(std::expected<void, E> &)
{
}

} // namespace kvmpp

// The value of a Result, or a return of its error from the function around. TRYs nest. Not among the
// elements of a braced list, nor among arguments beside others that own something: those that are made
// already are not destroyed by the return.
#define TRY(expression) KVMPP_TRY(expression, __COUNTER__)
#define KVMPP_TRY(expression, number) KVMPP_TRY_PASTE(expression, number)
#define KVMPP_TRY_PASTE(expression, number) KVMPP_TRY_NAMED(expression, try_result_##number)
#define KVMPP_TRY_NAMED(expression, result)                                                        \
	({                                                                                         \
		auto result = (expression);                                                        \
		if (!result) [[unlikely]]                                                          \
			return std::unexpected(result.error());                                    \
		::kvmpp::take(result);                                                             \
	})
