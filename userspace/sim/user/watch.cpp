// SPDX-License-Identifier: GPL-2.0-only
#include "sim/user/watch.h"

#include <algorithm>
#include <cerrno>
#include <shared_mutex>
#include <vector>
#include "host/seam.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/thread.h"

namespace kvmpp::sim
{
namespace
{

struct MmWatch {
	void *owner;
	int address_space;
};

// Shared by those who tell; a watch that stops waits for them.
std::shared_mutex lock;
std::vector<MmWatch *> &all()
{
	static std::vector<MmWatch *> watches;
	return watches;
}

} // namespace

void tell_watches(u64 start, u64 end, const std::function<void()> &change)
{
	std::shared_lock guard{lock};
	for (const MmWatch *watch : all())
		kvmpp_mm_invalidate_begin(watch->owner, start, end, true);
	change();
	for (const MmWatch *watch : all())
		kvmpp_mm_invalidate_end(watch->owner, start, end);
}

bool ask_watches_for_use(u64 start, u64 end, bool clear)
{
	std::shared_lock guard{lock};
	bool result = false;
	for (const MmWatch *watch : all())
		result |= kvmpp_mm_young(watch->owner, start, end, clear) != 0;
	return result;
}

usize watches()
{
	std::shared_lock guard{lock};
	return all().size();
}

} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_mm_watch_start(kvmpp_mm_watch *watch, void *owner)
{
	sim::might_sleep("watching an address space");
	if (sim::fails_now(sim::Fallible::host_call))
		return -ENOMEM;
	sim::construct_in<sim::MmWatch>(watch, owner, sim::this_thread().address_space);
	std::lock_guard guard{sim::lock};
	sim::all().push_back(&sim::object_in<sim::MmWatch>(watch));
	return 0;
}

void kvmpp_mm_watch_stop(kvmpp_mm_watch *watch)
{
	sim::might_sleep("the end of watching an address space");
	sim::hooks.block();
	{
		std::lock_guard guard{sim::lock};
		std::erase(sim::all(), &sim::object_in<sim::MmWatch>(watch));
	}
	sim::hooks.resume();
}

int kvmpp_mm_is_current(const kvmpp_mm_watch *watch)
{
	return sim::object_in<const sim::MmWatch>(watch).address_space == sim::this_thread().address_space;
}
