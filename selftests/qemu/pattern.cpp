// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

constexpr std::size_t chunk_words = 8192;

template <typename Move>
bool move_all(char *bytes, std::size_t size, const char *what, Move move)
{
	while (size) {
		ssize_t moved = move(bytes, size);
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0) {
			perror(what);
			return false;
		}
		bytes += moved;
		size -= static_cast<std::size_t>(moved);
	}
	return true;
}

} // namespace

void fill(std::span<std::uint64_t> words, std::uint64_t seed, std::uint64_t first)
{
	for (std::uint64_t &word : words)
		word = pattern_word(seed, first++);
}

bool filled(std::span<const std::uint64_t> words, std::uint64_t seed, std::uint64_t first)
{
	for (const std::uint64_t &word : words) {
		if (word != pattern_word(seed, first)) {
			fprintf(stderr, "word %#jx of pattern %ju is %#jx\n", std::uintmax_t{first},
				std::uintmax_t{seed}, std::uintmax_t{word});
			return false;
		}
		++first;
	}
	return true;
}

bool send_pattern(int fd, std::uint64_t seed, std::uint64_t bytes)
{
	static thread_local std::uint64_t chunk[chunk_words];
	for (std::uint64_t first = 0, words = bytes / 8; first < words; first += chunk_words) {
		std::span part{chunk, std::min<std::size_t>(chunk_words, words - first)};
		fill(part, seed, first);
		if (!move_all(reinterpret_cast<char *>(chunk), part.size_bytes(), "sending",
			    [fd](char *from, std::size_t size) { return write(fd, from, size); }))
			return false;
	}
	return true;
}

bool receive_pattern(int fd, std::uint64_t seed, std::uint64_t bytes)
{
	static thread_local std::uint64_t chunk[chunk_words];
	for (std::uint64_t first = 0, words = bytes / 8; first < words; first += chunk_words) {
		std::span part{chunk, std::min<std::size_t>(chunk_words, words - first)};
		if (!move_all(reinterpret_cast<char *>(chunk), part.size_bytes(), "receiving",
			    [fd](char *to, std::size_t size) { return read(fd, to, size); }))
			return false;
		if (!filled(part, seed, first))
			return false;
	}
	return true;
}

} // namespace kvmpp::qemu
