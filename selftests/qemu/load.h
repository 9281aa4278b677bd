// SPDX-License-Identifier: GPL-2.0-only
// A computation whose result the guest and its host must agree on: integers and floating point,
// whose registers no exit, no switch of threads and no migration may change.
#pragma once

#include <bit>
#include <cstdint>

namespace kvmpp::qemu
{

[[gnu::noinline]] inline std::uint64_t compute(unsigned rounds)
{
	std::uint64_t whole = 88172645463325252;
	double real = 1.0;
	for (unsigned i = 0; i < rounds; ++i) {
		whole ^= whole << 13;
		whole ^= whole >> 7;
		whole ^= whole << 17;
		real = real * 0.75 + static_cast<double>(whole >> 40) * 0x1p-24;
	}
	return whole ^ std::bit_cast<std::uint64_t>(real);
}

} // namespace kvmpp::qemu
