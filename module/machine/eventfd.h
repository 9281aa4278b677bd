// SPDX-License-Identifier: GPL-2.0-only
// A referenced eventfd, to be signalled.
#pragma once

#include <utility>
#include "host/result.h"
#include "host/seam.h"

namespace kvmpp::machine
{

class EventFd {
    public:
	EventFd() = default;
	EventFd(EventFd &&other) : context_{std::exchange(other.context_, nullptr)} {}
	EventFd &operator=(EventFd &&other)
	{
		std::swap(context_, other.context_);
		return *this;
	}
	~EventFd()
	{
		if (context_)
			kvmpp_eventfd_put(context_);
	}

	// EBADF, EINVAL: not an eventfd.
	static Result<EventFd> get(int fd)
	{
		int error = 0;
		EventFd eventfd;
		eventfd.context_ = kvmpp_eventfd_get(fd, &error);
		TRY(result_of(error));
		return eventfd;
	}

	// Any context.
	void signal() const { kvmpp_eventfd_signal(context_); }
	bool operator==(const EventFd &) const = default;

    private:
	void *context_ = nullptr;
};

} // namespace kvmpp::machine
