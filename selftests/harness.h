// SPDX-License-Identifier: GPL-2.0-only
// The harness of the selftests: TAP 13 on stdout, each test in a process of its own, exit status
// 0 passed, 1 failed, 4 skipped, as in the kernel's selftests.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace kvmpp::selftests
{

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

// The device under test, from the command line.
extern const char *device;

class Test {
public:
	Test(const char *name, void (*body)());

	const char *name;
	void (*body)();
	Test *next = nullptr;
};

// A number as it is printed: negative ones in an errno's range by their name.
struct Value {
	i64 number;

	template <typename T>
	explicit Value(T value) : number(static_cast<i64>(value))
	{}
};

void report_failure(const char *file, int line, const char *condition);
void report_difference(
	const char *file, int line, const char *expression, Value actual, Value expected);
// A line of explanation, `# ...`.
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void end_test();
[[noreturn]] void skip_test(const char *format, ...) __attribute__((format(printf, 1, 2)));

template <typename T>
constexpr auto plain(T value)
{
	if constexpr (std::is_enum_v<T>)
		return std::to_underlying(value);
	else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, char>)
		return static_cast<int>(value);
	else
		return value;
}

template <typename A, typename B>
bool equal(const char *file, int line, const char *expression, A actual, B expected)
{
	if (std::cmp_equal(plain(actual), plain(expected)))
		return true;
	report_difference(file, line, expression, Value{actual}, Value{expected});
	return false;
}

} // namespace kvmpp::selftests

#define TEST(name)                                                \
	static void name();                                       \
	static ::kvmpp::selftests::Test name##_test{#name, name}; \
	static void name()

// CHECK notes a failure and goes on; REQUIRE ends the test with it.
#define CHECK(condition)                                                                    \
	((condition) ? true                                                                 \
		     : (::kvmpp::selftests::report_failure(__FILE__, __LINE__, #condition), \
			       false))
#define CHECK_EQ(actual, expected) \
	::kvmpp::selftests::equal(__FILE__, __LINE__, #actual, actual, expected)
#define REQUIRE(condition)                              \
	do {                                            \
		if (!CHECK(condition))                  \
			::kvmpp::selftests::end_test(); \
	} while (false)
#define REQUIRE_EQ(actual, expected)                    \
	do {                                            \
		if (!CHECK_EQ(actual, expected))        \
			::kvmpp::selftests::end_test(); \
	} while (false)
