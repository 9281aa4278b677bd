// SPDX-License-Identifier: GPL-2.0-only
// Results of a bench: written, read back, compared; and the guest's code.
#include <gtest/gtest.h>
#include <sstream>
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/bench/results.h"
#include "kvmpp/refusal.h"

namespace kvmpp::command
{
namespace
{

Results parsed(const std::string &text)
{
	std::istringstream lines{text};
	return parse_results("test", lines);
}

TEST(Results, lines_are_read_as_they_are_written)
{
	const Measurement measured{"cpuid", "CPUID exit", 969, ""};
	const Measurement missing{"eoi", "an EOI", {}, "no KVM_CAP_IRQCHIP"};
	EXPECT_EQ(line_of(measured), "cpuid\t969\tCPUID exit");
	EXPECT_EQ(line_of(missing), "eoi\t-\tan EOI\tno KVM_CAP_IRQCHIP");

	const Results results =
		parsed("# comment\n\n" + line_of(measured) + "\n" + line_of(missing) + "\n");
	ASSERT_EQ(results.measurements.size(), 2u);
	EXPECT_EQ(results.measurements[0].ticks, 969u);
	EXPECT_EQ(results.measurements[0].description, "CPUID exit");
	EXPECT_FALSE(results.measurements[1].ticks);
	EXPECT_EQ(results.measurements[1].reason, "no KVM_CAP_IRQCHIP");
}

TEST(Results, what_is_no_result_is_refused_by_its_line)
{
	for (const char *line : {"hello", "cpuid\t12", "cpuid\tx\ty", "cpuid\t-1\ty",
		     "cpuid\t12 \ty", "\t1\ty", "cpuid\t18446744073709551616\ty"}) {
		try {
			parsed(std::string{"# first\n"} + line + "\n");
			ADD_FAILURE() << line;
		} catch (const Refusal &refusal) {
			EXPECT_STREQ(refusal.what(), "test, line 2 is not a result of kvmpp bench");
		}
	}
	EXPECT_THROW(parsed("# nothing\n"), Refusal);
}

TEST(Results, comparison_has_every_operation_of_either)
{
	Results first = parsed("a\t100\tboth\nb\t5\tfirst only\nc\t-\tmissing\twhy\nz\t0\tzero\n");
	Results second = parsed("a\t50\tboth\nc\t7\tmissing\nd\t9\tsecond only\nz\t1\tzero\n");
	first.source = "A";
	second.source = "B";
	EXPECT_EQ(comparison(first, second), "| operation   |   A |  B | ratio |\n"
					     "|-------------|----:|---:|------:|\n"
					     "| both        | 100 | 50 |  0.50 |\n"
					     "| first only  |   5 |  - |     - |\n"
					     "| missing     |   - |  7 |     - |\n"
					     "| zero        |   0 |  1 |     - |\n"
					     "| second only |   - |  9 |     - |\n");
}

TEST(GuestCode, is_small_and_ends_with_a_halt)
{
	EXPECT_LT(guest_code().size(), 1024u);
	EXPECT_EQ(guest_code().back(), std::byte{0xf4});
	EXPECT_EQ(&guest_code().back(), kvmpp_bench_halt);
}

} // namespace
} // namespace kvmpp::command
