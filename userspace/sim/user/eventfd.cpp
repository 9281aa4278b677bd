// SPDX-License-Identifier: GPL-2.0-only
#include "sim/user/eventfd.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <utility>
#include <vector>
#include "host/seam.h"
#include "sim/cpu/cpus.h"
#include "sim/faults.h"
#include "sim/host.h"

namespace kvmpp::sim
{
namespace
{

struct EventFd;

struct Watch {
	EventFd *eventfd;
	const kvmpp_eventfd_calls *calls;
	void *context;
};

struct EventFd {
	// Held while watches are called. A resampler may signal one eventfd from another's call.
	std::recursive_mutex lock;
	u64 count = 0;
	std::vector<Watch *> watches;
	unsigned references = 1; // under the lock of all
};

std::mutex lock_of_all;
// Held while watches hear of a close; whoever ends a watch waits for that.
std::mutex hanging_up;
std::map<int, EventFd *> &descriptors()
{
	static std::map<int, EventFd *> all;
	return all;
}
std::atomic<usize> live{0}, references{0}, watching{0};

EventFd *get(int fd)
{
	std::lock_guard guard{lock_of_all};
	const auto found = descriptors().find(fd);
	if (found == descriptors().end())
		return nullptr;
	++found->second->references;
	return found->second;
}

void put(EventFd *eventfd)
{
	{
		std::lock_guard guard{lock_of_all};
		if (--eventfd->references)
			return;
	}
	--live;
	delete eventfd;
}

void signal(EventFd &eventfd)
{
	Atomic wait_queue_lock;
	std::lock_guard guard{eventfd.lock};
	++eventfd.count;
	for (Watch *watch : eventfd.watches) {
		eventfd.count = 0;
		watch->calls->signalled(watch->context);
	}
}

// One that has not heard yet, and still watches: each may end itself, or be ended, meanwhile.
Watch *next_to_tell(EventFd &eventfd, std::vector<Watch *> &told)
{
	std::lock_guard guard{eventfd.lock};
	for (Watch *watch : eventfd.watches) {
		if (std::ranges::find(told, watch) != told.end())
			continue;
		told.push_back(watch);
		return watch;
	}
	return nullptr;
}

void stop(kvmpp_eventfd_watch *storage)
{
	Watch &watch = object_in<Watch>(storage);
	{
		std::lock_guard guard{watch.eventfd->lock};
		std::erase(watch.eventfd->watches, &watch);
	}
	--watching;
	put(watch.eventfd);
}

} // namespace

int make_eventfd()
{
	std::lock_guard guard{lock_of_all};
	int fd = first_eventfd;
	while (descriptors().contains(fd))
		++fd;
	if (fd >= first_free_descriptor())
		return -EMFILE;
	descriptors()[fd] = new EventFd;
	++live;
	return fd;
}

void signal_eventfd(int fd)
{
	EventFd *eventfd = get(fd);
	if (!eventfd)
		die("signals an eventfd that is none");
	signal(*eventfd);
	put(eventfd);
}

u64 take_eventfd(int fd)
{
	EventFd *eventfd = get(fd);
	if (!eventfd)
		die("reads an eventfd that is none");
	u64 count;
	{
		std::lock_guard guard{eventfd->lock};
		count = std::exchange(eventfd->count, 0);
	}
	put(eventfd);
	return count;
}

bool is_eventfd(int fd)
{
	std::lock_guard guard{lock_of_all};
	return descriptors().contains(fd);
}

void close_eventfd(int fd)
{
	EventFd *eventfd;
	{
		std::lock_guard guard{lock_of_all};
		eventfd = descriptors().at(fd);
		descriptors().erase(fd);
	}
	{
		InKernel worker;
		hooks.block();
		std::lock_guard guard{hanging_up};
		hooks.resume();
		std::vector<Watch *> told;
		while (Watch *watch = next_to_tell(*eventfd, told))
			watch->calls->hung_up(watch->context);
	}
	put(eventfd);
}

FileCounts eventfd_counts()
{
	return {.files = 0,
		.reserved = 0,
		.eventfds = live,
		.eventfd_references = references,
		.eventfd_watches = watching};
}

} // namespace kvmpp::sim

using namespace kvmpp;

void *kvmpp_eventfd_get(int fd, int *error)
{
	*error = 0;
	if (sim::fails_now(sim::Fallible::host_call)) {
		*error = -EMFILE;
		return nullptr;
	}
	sim::EventFd *eventfd = sim::get(fd);
	if (!eventfd) {
		*error = -EBADF;
		return nullptr;
	}
	++sim::references;
	return eventfd;
}

void kvmpp_eventfd_put(void *eventfd)
{
	--sim::references;
	sim::put(static_cast<sim::EventFd *>(eventfd));
}

const __s32 kvmpp_eventfd_signals_atomically = 1;

void kvmpp_eventfd_signal(void *eventfd)
{
	sim::signal(*static_cast<sim::EventFd *>(eventfd));
}

int kvmpp_eventfd_watch_start(kvmpp_eventfd_watch *storage, int fd, const kvmpp_eventfd_calls *calls,
	void *context)
{
	sim::might_sleep("watching an eventfd");
	if (sim::fails_now(sim::Fallible::host_call))
		return -ENOMEM;
	sim::EventFd *eventfd = sim::get(fd);
	if (!eventfd)
		return -EBADF;
	sim::construct_in<sim::Watch>(storage, eventfd, calls, context);
	++sim::watching;
	sim::Atomic wait_queue_lock;
	std::lock_guard guard{eventfd->lock};
	eventfd->watches.push_back(&sim::object_in<sim::Watch>(storage));
	if (std::exchange(eventfd->count, 0))
		calls->signalled(context);
	return 0;
}

void kvmpp_eventfd_watch_stop(kvmpp_eventfd_watch *storage)
{
	sim::might_sleep("the end of watching an eventfd");
	sim::hooks.block();
	{
		std::lock_guard guard{sim::hanging_up};
		sim::hooks.resume();
		sim::stop(storage);
	}
}

void kvmpp_eventfd_watch_end(kvmpp_eventfd_watch *storage)
{
	sim::stop(storage);
}
