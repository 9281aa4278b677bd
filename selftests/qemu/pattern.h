// SPDX-License-Identifier: GPL-2.0-only
// Bytes that both ends of a transfer know: each eight depend on the seed and on where they are, so
// nothing that is lost, doubled or out of place goes unseen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvmpp::qemu
{

constexpr std::uint64_t pattern_word(std::uint64_t seed, std::uint64_t index)
{
	std::uint64_t value = (seed + 1) * 0x9e3779b97f4a7c15 + index * 0xd1342543de82ef95;
	value ^= value >> 32;
	value *= 0xd6e8feb86659fd93;
	return value ^ value >> 32;
}

// Words from this index on.
void fill(std::span<std::uint64_t> words, std::uint64_t seed, std::uint64_t first);
bool filled(std::span<const std::uint64_t> words, std::uint64_t seed, std::uint64_t first);

// So many bytes, a multiple of eight, to the descriptor, or from it and compared.
bool send_pattern(int fd, std::uint64_t seed, std::uint64_t bytes);
bool receive_pattern(int fd, std::uint64_t seed, std::uint64_t bytes);

} // namespace kvmpp::qemu
