// SPDX-License-Identifier: GPL-2.0-only
// Writing, reading and comparing results.
#include "kvmpp/bench/results.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <istream>
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

namespace
{

std::vector<std::string> split(const std::string &line)
{
	std::vector<std::string> fields;
	for (std::size_t start = 0; start <= line.size();) {
		const auto end = std::min(line.find('\t', start), line.size());
		fields.push_back(line.substr(start, end - start));
		start = end + 1;
	}
	return fields;
}

std::optional<Measurement> parse_line(const std::string &line)
{
	const std::vector<std::string> fields = split(line);
	if (fields.size() < 3 || fields[0].empty())
		return {};
	Measurement measurement{fields[0], fields[2], {}, fields.size() > 3 ? fields[3] : ""};
	if (fields[1] == "-")
		return measurement;
	lib::u64 ticks{};
	const char *end = fields[1].data() + fields[1].size();
	const auto [rest, error] = std::from_chars(fields[1].data(), end, ticks);
	if (error != std::errc{} || rest != end)
		return {};
	measurement.ticks = ticks;
	return measurement;
}

const Measurement *find(const Results &results, const std::string &key)
{
	const auto found = std::ranges::find(results.measurements, key, &Measurement::key);
	return found == results.measurements.end() ? nullptr : &*found;
}

std::string ticks_of(const Measurement *measurement)
{
	return measurement && measurement->ticks ? std::to_string(*measurement->ticks) : "-";
}

std::string ratio(const Measurement *first, const Measurement *second)
{
	if (!first || !second || !first->ticks || !second->ticks || *first->ticks == 0)
		return "-";
	std::array<char, 32> text;
	std::snprintf(text.data(), text.size(), "%.2f",
		static_cast<double>(*second->ticks) / static_cast<double>(*first->ticks));
	return text.data();
}

using Row = std::array<std::string, 4>;

// Text is on the left of its column, numbers on the right.
std::string markdown(const std::vector<Row> &rows)
{
	std::array<std::size_t, std::tuple_size_v<Row>> widths{};
	for (const Row &row : rows) {
		for (std::size_t i = 0; i < row.size(); i++)
			widths[i] = std::max(widths[i], row[i].size());
	}
	std::string text;
	for (std::size_t line = 0; line < rows.size(); line++) {
		for (std::size_t i = 0; i < widths.size(); i++) {
			const std::string padding(widths[i] - rows[line][i].size(), ' ');
			text += "| " +
				(i == 0 ? rows[line][i] + padding : padding + rows[line][i]) + " ";
		}
		text += "|\n";
		if (line > 0)
			continue;
		for (std::size_t i = 0; i < widths.size(); i++)
			text += "|" + std::string(widths[i] + 1, '-') + (i == 0 ? "-" : ":");
		text += "|\n";
	}
	return text;
}

} // namespace

std::string line_of(const Measurement &measurement)
{
	std::string line =
		measurement.key + "\t" + ticks_of(&measurement) + "\t" + measurement.description;
	if (!measurement.ticks)
		line += "\t" + measurement.reason;
	return line;
}

Results parse_results(const std::string &source, std::istream &lines)
{
	Results results{source, {}};
	unsigned number = 0;
	for (std::string line; std::getline(lines, line);) {
		number++;
		if (line.empty() || line.starts_with('#'))
			continue;
		auto measurement = parse_line(line);
		if (!measurement)
			throw Refusal{source + ", line " + std::to_string(number) +
				      " is not a result of kvmpp bench"};
		results.measurements.push_back(std::move(*measurement));
	}
	if (results.measurements.empty())
		throw Refusal{source + " holds no result of kvmpp bench"};
	return results;
}

std::string comparison(const Results &first, const Results &second)
{
	std::vector<Row> rows{{"operation", first.source, second.source, "ratio"}};
	const auto add = [&](const std::string &description, const Measurement *a,
				 const Measurement *b) {
		rows.push_back({description, ticks_of(a), ticks_of(b), ratio(a, b)});
	};
	for (const Measurement &measurement : first.measurements)
		add(measurement.description, &measurement, find(second, measurement.key));
	for (const Measurement &measurement : second.measurements) {
		if (!find(first, measurement.key))
			add(measurement.description, nullptr, &measurement);
	}
	return markdown(rows);
}

} // namespace kvmpp::command
