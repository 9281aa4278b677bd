// SPDX-License-Identifier: GPL-2.0-only
// Reading command lines.
#include "kvmpp/options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

namespace kvmpp::command
{

namespace
{

std::string quoted(std::string_view text)
{
	return "'" + std::string{text} + "'";
}

// The number that text begins with; text is what follows it.
std::optional<lib::u64> leading_number(std::string_view &text)
{
	lib::u64 number{};
	const auto [rest, error] = std::from_chars(text.begin(), text.end(), number);
	if (error != std::errc{})
		return {};
	text.remove_prefix(static_cast<std::size_t>(rest - text.begin()));
	return number;
}

} // namespace

std::vector<std::string> parse(
	std::span<const Option> options, std::span<const char *const> arguments)
{
	std::vector<std::string> others;
	for (std::size_t i = 0; i < arguments.size(); i++) {
		const std::string_view word = arguments[i];
		if (!word.starts_with("--")) {
			others.emplace_back(word);
			continue;
		}
		const auto equals = word.find('=');
		const std::string_view name = word.substr(2, equals - 2);
		const auto option = std::ranges::find(options, name, &Option::name);
		if (option == options.end())
			throw Misuse{"there is no option " + quoted(word)};

		if (option->value.empty()) {
			if (equals != word.npos)
				throw Misuse{"--" + std::string{name} + " takes no value"};
			option->apply({});
		} else if (equals != word.npos) {
			option->apply(std::string{word.substr(equals + 1)});
		} else if (++i < arguments.size()) {
			option->apply(arguments[i]);
		} else {
			throw Misuse{"--" + std::string{name} + " needs a value"};
		}
	}
	return others;
}

std::string describe(std::span<const Option> options)
{
	const auto left = [](const Option &option) {
		std::string text = "  --" + std::string{option.name};
		return option.value.empty() ? text : text + " " + std::string{option.value};
	};
	std::size_t width = 0;
	for (const Option &option : options)
		width = std::max(width, left(option).size());

	std::string text;
	for (const Option &option : options) {
		std::string line = left(option);
		line.resize(width + 3, ' ');
		text += line + std::string{option.help} + "\n";
	}
	return text;
}

lib::u64 size_from(std::string_view option, const std::string &text)
{
	std::string_view unit = text;
	const auto number = leading_number(unit);
	const unsigned shift = unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : 0;
	if (!number || !shift)
		throw Misuse{"--" + std::string{option} + " takes a size such as 256M or 1G, not " +
			     quoted(text)};
	if (*number > std::numeric_limits<lib::u64>::max() >> shift)
		throw Misuse{"--" + std::string{option} + ": " + text + " is too large"};
	return *number << shift;
}

unsigned number_from(
	std::string_view option, const std::string &text, unsigned least, unsigned most)
{
	std::string_view rest = text;
	const auto number = leading_number(rest);
	if (!number || !rest.empty() || *number < least || *number > most)
		throw Misuse{"--" + std::string{option} + " takes a number from " +
			     std::to_string(least) + " to " + std::to_string(most) + ", not " +
			     quoted(text)};
	return static_cast<unsigned>(*number);
}

} // namespace kvmpp::command
