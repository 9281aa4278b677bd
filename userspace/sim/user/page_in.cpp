// SPDX-License-Identifier: GPL-2.0-only
// Threads of the host's that bring pages in: none is there but the test, which says when a page comes.
#include <algorithm>
#include <cerrno>
#include <mutex>
#include <vector>
#include "host/seam.h"
#include "sim/cpu/cpus.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/user/memory.h"

struct kvmpp_page_in {
	kvmpp::u64 address;
	void (*done)(void *context); // nullptr: forgotten
	void *context;
	bool under_way = true;
	std::mutex lock; // while done() runs
};

namespace kvmpp::sim
{
namespace
{

std::mutex lock_of_all;
std::vector<kvmpp_page_in *> &all()
{
	static std::vector<kvmpp_page_in *> under_way;
	return under_way;
}

kvmpp_page_in *take_first()
{
	std::lock_guard guard{lock_of_all};
	if (all().empty())
		return nullptr;
	kvmpp_page_in *first = all().front();
	all().erase(all().begin());
	return first;
}

void finish(kvmpp_page_in *page_in)
{
	bring_page(page_in->address);
	bool forgotten;
	{
		InKernel worker;
		Atomic spinlock;
		std::lock_guard guard{page_in->lock};
		if (page_in->done)
			page_in->done(page_in->context);
		page_in->under_way = false;
		forgotten = !page_in->done;
	}
	if (forgotten)
		delete page_in;
}

} // namespace

usize page_ins()
{
	std::lock_guard guard{lock_of_all};
	return all().size();
}

void finish_page_ins(usize count)
{
	for (kvmpp_page_in *page_in; count && (page_in = take_first()); --count)
		finish(page_in);
}

} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_page_in_start(
	__u64 address, int, void (*done)(void *context), void *context, kvmpp_page_in **page_in)
{
	sim::might_sleep("starting a thread of the host's");
	if (sim::fails_now(sim::Fallible::host_call))
		return -EAGAIN;
	*page_in = new kvmpp_page_in{.address = address, .done = done, .context = context, .lock = {}};
	std::lock_guard guard{sim::lock_of_all};
	sim::all().push_back(*page_in);
	return 0;
}

void kvmpp_page_in_forget(kvmpp_page_in *page_in)
{
	if (!page_in)
		return;
	bool under_way;
	{
		std::lock_guard guard{page_in->lock};
		page_in->done = nullptr;
		under_way = page_in->under_way;
	}
	if (!under_way)
		delete page_in;
}
