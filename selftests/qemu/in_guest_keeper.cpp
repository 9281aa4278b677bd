// SPDX-License-Identifier: GPL-2.0-only
// Runs while the guest is stopped, saved, restored and migrated, and notices what that changes.
#include "deadline.h"
#include "in_guest.h"
#include "pattern.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fcntl.h>
#include <mutex>
#include <new>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kvmpp::qemu
{

namespace
{

struct Tally {
	std::atomic<unsigned> rounds[2];
	// Words of memory that were not what had been written; steps of the clock back; the longest
	// time that one of the processors did not come to look at it.
	std::atomic<unsigned> bad_parts, steps_back;
	double latest, longest_gap;
};

constexpr std::size_t part_words = 4096;

Tally *mapped_tally(const char *path, int flags)
{
	int fd = open(path, flags, 0600);
	if (fd < 0 || ((flags & O_CREAT) && ftruncate(fd, sizeof(Tally)) < 0)) {
		perror(path);
		return nullptr;
	}
	void *at = mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return at == MAP_FAILED ? nullptr : static_cast<Tally *>(at);
}

// One clock for all processors: what one has read, no other may come to read later.
void look_at_clock(Tally &tally)
{
	static std::mutex mutex;
	std::lock_guard lock{mutex};
	double time = now();
	if (time < tally.latest)
		++tally.steps_back;
	if (tally.latest > 0)
		tally.longest_gap = std::max(tally.longest_gap, time - tally.latest);
	tally.latest = time;
}

void keep_on(unsigned cpu, Tally &tally, unsigned mib)
{
	stay_on(cpu);
	std::vector<std::uint64_t> memory(mib << 20 >> 3);
	fill(memory, cpu, 0);
	for (std::uint64_t seed = cpu;; seed += 2, ++tally.rounds[cpu]) {
		for (std::size_t first = 0; first < memory.size(); first += part_words) {
			std::span part{&memory[first], part_words};
			tally.bad_parts += !filled(part, seed, first);
			fill(part, seed + 2, first);
			look_at_clock(tally);
			usleep(10'000);
		}
	}
}

} // namespace

bool keep(const char *tally_path, unsigned mib)
{
	Tally *tally = mapped_tally(tally_path, O_RDWR | O_CREAT);
	if (!tally)
		return false;
	std::thread other{keep_on, 1, std::ref(*tally), mib};
	keep_on(0, *tally, mib);
	return false;
}

bool tally(const char *tally_path)
{
	Tally *tally = mapped_tally(tally_path, O_RDWR);
	if (!tally)
		return false;
	printf("tally %u %u rounds, %u bad parts, %u steps back, longest gap %.3f s\n",
		tally->rounds[0].load(), tally->rounds[1].load(), tally->bad_parts.load(),
		tally->steps_back.load(), tally->longest_gap);
	return tally->bad_parts == 0 && tally->steps_back == 0;
}

} // namespace kvmpp::qemu
