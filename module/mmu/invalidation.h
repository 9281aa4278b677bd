// SPDX-License-Identifier: GPL-2.0-only
// Decides whether a page that a fault looked up in the VMM's address space may still be mapped, or
// whether the address space has changed meanwhile.
#pragma once

#include <algorithm>
#include <atomic>
#include "host/types.h"

namespace kvmpp::mmu
{

class Invalidations {
    public:
	// Taken before the look-up; any context.
	u64 snapshot() const
	{
		return completed_.load(std::memory_order_acquire);
	}

	// Table lock held shared. True: what was looked up since the snapshot is void; try again.
	bool stale(u64 snapshot, Hva address) const
	{
		if (running_ > 0 && address >= start_ && address < end_)
			return true;
		return completed_.load(std::memory_order_relaxed) != snapshot;
	}

	// Table lock held exclusively. Ranges that run at once are taken as one.
	void begin(Hva start, Hva end)
	{
		if (running_++ == 0) {
			start_ = start;
			end_ = end;
		} else {
			start_ = std::min(start_, start);
			end_ = std::max(end_, end);
		}
	}

	void end()
	{
		completed_.fetch_add(1, std::memory_order_release);
		--running_;
	}

    private:
	std::atomic<u64> completed_{0};
	unsigned running_ = 0;
	Hva start_{}, end_{};
};

} // namespace kvmpp::mmu
