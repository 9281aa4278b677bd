// SPDX-License-Identifier: GPL-2.0-only
// Memory of the simulated host: the C library's, so that the sanitizers watch it.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include "host/seam.h"
#include "host/types.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/thread.h"

__u64 kvmpp_direct_map = 0;

namespace kvmpp::sim
{

namespace
{

std::atomic<u64> live{0}, refused{0};

void *allocate(usize size, usize alignment, bool zeroed)
{
	might_sleep("an allocation");
	if (fails_now(Fallible::allocation)) {
		++refused;
		return nullptr;
	}
	void *memory = std::aligned_alloc(alignment, (size + alignment - 1) & ~(alignment - 1));
	if (!memory)
		return nullptr;
	// What is not promised to be zero never is.
	std::memset(memory, zeroed ? 0 : 0xa5, size);
	++live;
	return memory;
}

void release(void *memory)
{
	if (!memory)
		return;
	--live;
	std::free(memory);
}

} // namespace

MemoryStatistics memory_statistics()
{
	return {live, refused};
}

} // namespace kvmpp::sim

using namespace kvmpp;

void *kvmpp_alloc(size_t size)
{
	return sim::allocate(size, 8, true);
}

void kvmpp_free(void *memory)
{
	if (memory)
		sim::might_sleep("kvmpp_free");
	sim::release(memory);
}

void *kvmpp_page_alloc(int)
{
	return sim::allocate(page_size, page_size, true);
}

void *kvmpp_pages_alloc(unsigned int order)
{
	return sim::allocate(page_size << order, page_size << order, false);
}

void kvmpp_pages_free(void *pages, unsigned int)
{
	if (sim::hooks.page_freed)
		sim::hooks.page_freed(pages);
	sim::release(pages);
}
