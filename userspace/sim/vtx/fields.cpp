// SPDX-License-Identifier: GPL-2.0-only
// Which fields the simulated processor's VMCS has. SDM vol. 3, appendix B.
#include <bitset>
#include "sim/vtx/vmcs.h"

namespace kvmpp::sim::vtx
{
namespace
{

struct Range {
	u32 first, last;
};

constexpr Range ranges[] = {
	// 16-bit
	{0x0000, 0x0004},
	{0x0800, 0x0812},
	{0x0c00, 0x0c0c},
	// 64-bit
	{0x2000, 0x202e},
	{0x2032, 0x2032},
	{0x2400, 0x2400},
	{0x2800, 0x2810},
	{0x2c00, 0x2c04},
	// 32-bit
	{0x4000, 0x4024},
	{0x4400, 0x440e},
	{0x4800, 0x482a},
	{0x482e, 0x482e},
	{0x4c00, 0x4c00},
	// natural width
	{0x6000, 0x600e},
	{0x6400, 0x640a},
	{0x6800, 0x6826},
	{0x6c00, 0x6c16},
};

const std::bitset<1024> existing = [] {
	std::bitset<1024> result;
	for (const auto &[first, last] : ranges)
		for (u32 encoding = first; encoding <= last; encoding += 2)
			result.set(Vmcs::place_of(encoding));
	return result;
}();

} // namespace

bool field_exists(u32 encoding)
{
	constexpr u32 used = 0x6ffe;
	return !(encoding & ~used) && (encoding >> 1 & 0x1ff) < 64 && existing[Vmcs::place_of(encoding)];
}

} // namespace kvmpp::sim::vtx
