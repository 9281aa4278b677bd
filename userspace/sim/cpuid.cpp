// SPDX-License-Identifier: GPL-2.0-only
#include "sim/cpuid.h"

#include <map>
#include <utility>
#include "host/seam.h"

namespace kvmpp::sim
{
namespace
{

using Leaves = std::map<std::pair<u32, u32>, CpuidResult>;

// A Skylake server: family 6, model 85, with AVX-512, and VT-x in leaf 1.
Leaves plausible()
{
	return {{{0, 0}, {0x16, 0x756e6547, 0x6c65746e, 0x49656e69}},
		{{1, 0}, {0x00050654, 0x02200800, 0x7ffefbff, 0xbfebfbff}},
		{{2, 0}, {0x76036301, 0x00f0b5ff, 0, 0x00c30000}},
		{{4, 0}, {0x1c004121, 0x01c0003f, 0x3f, 0}},
		{{4, 1}, {0x1c004122, 0x01c0003f, 0x3f, 0}},
		{{4, 2}, {0x1c004143, 0x03c0003f, 0x3ff, 0}},
		{{4, 3}, {0x1c07c163, 0x0280003f, 0x57ff, 4}},
		{{6, 0}, {0x77, 2, 9, 0}},
		{{7, 0}, {0, 0xd39ffffb, 0x8, 0xbc000400}},
		{{0xd, 0}, {0xe7, 0xa80, 0xa88, 0}},
		{{0xd, 1}, {0xf, 0xa08, 0x100, 0}},
		{{0xd, 2}, {0x100, 0x240, 0, 0}},
		{{0xd, 5}, {0x40, 0x440, 0, 0}},
		{{0xd, 6}, {0x200, 0x480, 0, 0}},
		{{0xd, 7}, {0x400, 0x680, 0, 0}},
		{{0x80000000, 0}, {0x80000008, 0, 0, 0}},
		{{0x80000001, 0}, {0, 0, 0x121, 0x2c100800}},
		{{0x80000006, 0}, {0, 0, 0x01006040, 0}},
		{{0x80000007, 0}, {0, 0, 0, 0x100}},
		{{0x80000008, 0}, {48 << 8 | physical_bits, 0, 0, 0}}};
}

Leaves &leaves()
{
	static Leaves all = plausible();
	return all;
}

} // namespace

void set_cpuid(u32 leaf, u32 subleaf, const CpuidResult &result)
{
	leaves()[{leaf, subleaf}] = result;
}

CpuidResult get_cpuid(u32 leaf, u32 subleaf)
{
	const auto found = leaves().find({leaf, subleaf});
	return found == leaves().end() ? CpuidResult{} : found->second;
}

void reset_cpuid()
{
	leaves() = plausible();
}

} // namespace kvmpp::sim

void kvmpp_cpuid(__u32 leaf, __u32 subleaf, __u32 registers[4])
{
	const auto result = kvmpp::sim::get_cpuid(leaf, subleaf);
	registers[0] = result.eax;
	registers[1] = result.ebx;
	registers[2] = result.ecx;
	registers[3] = result.edx;
}
