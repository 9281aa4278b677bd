// SPDX-License-Identifier: GPL-2.0-only
// Command lines, right and wrong.
#include <gtest/gtest.h>
#include "kvmpp/options.h"

namespace kvmpp::command
{
namespace
{

struct OptionsTest : testing::Test {
	std::string name;
	bool flag = false;
	std::vector<Option> table{
		{"name", "NAME", "a name", [this](const std::string &text) { name = text; }},
		{"flag", "", "a flag", [this](const std::string &) { flag = true; }},
	};

	std::vector<std::string> parsed(std::vector<const char *> words)
	{
		return parse(table, words);
	}
	std::string misuse(std::vector<const char *> words)
	{
		try {
			parse(table, words);
			return {};
		} catch (const Misuse &error) {
			return error.what();
		}
	}
};

TEST_F(OptionsTest, takes_values_in_both_forms_and_hands_back_the_rest)
{
	EXPECT_EQ(
		parsed({"a", "--name", "x", "b", "--flag"}), (std::vector<std::string>{"a", "b"}));
	EXPECT_EQ(name, "x");
	EXPECT_TRUE(flag);
	parsed({"--name=y=z"});
	EXPECT_EQ(name, "y=z");
	parsed({"--name="});
	EXPECT_EQ(name, "");
	parsed({"--name", "--flag"});
	EXPECT_EQ(name, "--flag");
}

TEST_F(OptionsTest, says_what_is_wrong)
{
	EXPECT_EQ(misuse({"--nome", "x"}), "there is no option '--nome'");
	EXPECT_EQ(misuse({"--name"}), "--name needs a value");
	EXPECT_EQ(misuse({"--flag=1"}), "--flag takes no value");
	EXPECT_EQ(misuse({"--"}), "there is no option '--'");
}

TEST_F(OptionsTest, help_is_made_from_the_table)
{
	EXPECT_EQ(describe(table), "  --name NAME   a name\n  --flag        a flag\n");
}

TEST(Sizes, need_a_unit_and_must_fit)
{
	EXPECT_EQ(size_from("memory", "256M"), 256u << 20);
	EXPECT_EQ(size_from("memory", "1G"), 1u << 30);
	EXPECT_EQ(size_from("memory", "4K"), 4096u);
	for (const char *text : {"", "M", "256", "-1M", "+1M", "1.5G", "256MB", "256m", "0x10M",
		     " 1M", "18446744073709551616K", "18014398509481984K"})
		EXPECT_THROW(size_from("memory", text), Misuse) << text;
}

TEST(Numbers, have_limits)
{
	EXPECT_EQ(number_from("cpus", "254", 1, 254), 254u);
	for (const char *text : {"", "0", "255", "-1", "2x", "4294967297"})
		EXPECT_THROW(number_from("cpus", text, 1, 254), Misuse) << text;
}

} // namespace
} // namespace kvmpp::command
