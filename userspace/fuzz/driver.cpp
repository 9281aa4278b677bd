// SPDX-License-Identifier: GPL-2.0-only
// Runs a fuzzer's target without libFuzzer: on the inputs of files, or on random ones, without
// coverage's help and cost, for numbers.
//
//   random-exits FILE...
//   random-exits SECONDS [SEED]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>
#include "host/types.h"

using kvmpp::u64;
using kvmpp::u8;

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, kvmpp::usize size);

namespace
{

void run_file(const char *name)
{
	std::ifstream file{name, std::ios::binary};
	const std::vector<char> bytes{std::istreambuf_iterator<char>{file}, {}};
	LLVMFuzzerTestOneInput(reinterpret_cast<const u8 *>(bytes.data()), bytes.size());
	std::fprintf(stderr, "%s: passed\n", name);
}

void run_random(unsigned seconds, u64 seed)
{
	const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{seconds};
	// Long inputs: a machine takes longer to make than an exit to handle.
	std::vector<u64> words(8192);
	u64 state = 88172645463325252 ^ seed << 8, inputs = 0;
	while (std::chrono::steady_clock::now() < end) {
		for (u64 &word : words) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			word = state;
		}
		LLVMFuzzerTestOneInput(
			reinterpret_cast<const u8 *>(words.data()), words.size() * sizeof(u64));
		++inputs;
	}
	std::fprintf(stderr, "%llu inputs\n", inputs);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc >= 2 && !std::filesystem::exists(argv[1])) {
		run_random(static_cast<unsigned>(std::atoi(argv[1])),
			argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 0);
		return 0;
	}
	for (int i = 1; i < argc; ++i)
		run_file(argv[i]);
	return 0;
}
