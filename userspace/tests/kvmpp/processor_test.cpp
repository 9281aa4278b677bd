// SPDX-License-Identifier: GPL-2.0-only
// CPUID of virtual processors: each has its place, and what is not its place stays as it was.
#include <gtest/gtest.h>
#include "kvmpp/run/processor.h"

namespace kvmpp::command
{
namespace
{

using lib::Cpuid;
using lib::u32;

Cpuid supported()
{
	Cpuid cpuid;
	cpuid.at(0, 0, false).eax = 0xb;
	cpuid.at(1, 0, false) = {.function = 1,
		.index = 0,
		.flags = 0,
		.eax = 0x50654,
		.ebx = 0x05100800,
		.ecx = 0x00200001,
		.edx = 0x0fffffff,
		.padding = {}};
	for (u32 index = 0; index < 4; index++) {
		const u32 level = index < 2 ? 1 : index, type = index == 3 ? 3 : index + 1;
		cpuid.at(4, index, true).eax = 0xfc000000 | 0x03fff000 | level << 5 | type;
	}
	cpuid.at(4, 4, true);
	cpuid.at(0xb, 0, true).edx = 77;
	cpuid.at(0x40000000, 0, false).ebx = 0x4b4d564b;
	return cpuid;
}

TEST(Processor, each_has_its_apic_id_everywhere)
{
	for (const u32 index : {0u, 2u}) {
		Cpuid cpuid = cpuid_of(supported(), index, 3, true);
		EXPECT_EQ(cpuid.find(1)->ebx >> 24, index);
		EXPECT_EQ(cpuid.find(1)->ebx >> 16 & 0xff, 4u); // IDs, not processors
		EXPECT_EQ(cpuid.find(1)->ebx & 0xffff, 0x0800u);
		EXPECT_TRUE(cpuid.find(1)->edx >> 28 & 1);
		for (u32 level = 0; level < 3; level++)
			EXPECT_EQ(cpuid.find(0xb, level)->edx, index);
	}
}

TEST(Processor, topology_is_one_package_of_cores)
{
	Cpuid cpuid = cpuid_of(supported(), 1, 3, true);
	EXPECT_EQ(cpuid.find(0xb, 0)->eax, 0u);
	EXPECT_EQ(cpuid.find(0xb, 0)->ebx, 1u);
	EXPECT_EQ(cpuid.find(0xb, 0)->ecx, 0x100u);
	EXPECT_EQ(cpuid.find(0xb, 1)->eax, 2u);
	EXPECT_EQ(cpuid.find(0xb, 1)->ebx, 3u);
	EXPECT_EQ(cpuid.find(0xb, 1)->ecx, 0x201u);
	EXPECT_EQ(cpuid.find(0xb, 2)->ebx, 0u);
	EXPECT_EQ(cpuid.find(0xb, 2)->ecx, 2u);
	EXPECT_EQ(cpuid.find(0x1f), nullptr); // as the system has it, or not
}

TEST(Processor, caches_above_the_second_level_are_shared)
{
	Cpuid cpuid = cpuid_of(supported(), 0, 3, true);
	for (u32 index = 0; index < 4; index++) {
		const u32 eax = cpuid.find(4, index)->eax;
		EXPECT_EQ(eax >> 14 & 0xfff, index == 3 ? 3u : 0u) << index;
		EXPECT_EQ(eax >> 26, 3u);
		EXPECT_EQ(eax & 0x3fff, supported().find(4, index)->eax & 0x3fff);
	}
	EXPECT_EQ(cpuid.find(4, 4)->eax, 0u);
}

TEST(Processor, a_single_one_has_no_siblings)
{
	Cpuid cpuid = cpuid_of(supported(), 0, 1, false);
	EXPECT_EQ(cpuid.find(1)->ebx >> 16, 1u);
	EXPECT_FALSE(cpuid.find(1)->edx >> 28 & 1);
	EXPECT_EQ(cpuid.find(4, 3)->eax >> 14, 0u);
}

TEST(Processor, knows_its_hypervisor_and_deadline_timer)
{
	EXPECT_EQ(cpuid_of(supported(), 0, 1, true).find(1)->ecx, 0x81200001u);
	EXPECT_EQ(cpuid_of(supported(), 0, 1, false).find(1)->ecx, 0x80200001u);
	EXPECT_EQ(cpuid_of(supported(), 0, 1, true).find(0x40000000)->ebx, 0x4b4d564bu);
}

} // namespace
} // namespace kvmpp::command
