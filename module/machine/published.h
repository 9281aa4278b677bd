// SPDX-License-Identifier: GPL-2.0-only
// Tables that vCPUs read without a lock while an ioctl replaces them. A writer publishes a whole new
// table and frees the old one when no reader can hold it any more: it waits for the VM's own readers
// only, and mostly for nobody, instead of for a grace period of the whole system.
#pragma once

#include <atomic>
#include <type_traits>
#include <utility>
#include "host/lock.h"
#include "host/memory.h"
#include "host/seam.h"

namespace kvmpp::machine
{

class Readers;

// One thread that reads, a vCPU's as a rule; it may read while it already reads. Several threads may
// share one if all use SharedReadSection.
class Reader : host::Pinned {
    public:
	explicit Reader(Readers &readers);
	~Reader();

    private:
	friend class Readers;
	friend class ReadSection;
	friend class SharedReadSection;

	Readers &readers_;
	std::atomic<u32> depth_{0};
	Reader *next_ = nullptr;
};

// While it lives, every table that its holder gets stays valid. May be held while sleeping for the
// VMM's memory, but not while waiting for something that a writer does.
class ReadSection : host::Pinned {
    public:
	explicit ReadSection(Reader &reader) : reader_{reader}
	{
		const u32 depth = reader.depth_.load(std::memory_order_relaxed);
		reader.depth_.store(depth + 1, std::memory_order_relaxed);
		// The table must not be fetched before a writer can see that somebody reads.
		if (depth == 0)
			std::atomic_thread_fence(std::memory_order_seq_cst);
	}
	~ReadSection()
	{
		const u32 depth = reader_.depth_.load(std::memory_order_relaxed);
		reader_.depth_.store(depth - 1, std::memory_order_release);
	}

    private:
	Reader &reader_;
};

// The same for a Reader that several threads use at once.
class SharedReadSection : host::Pinned {
    public:
	explicit SharedReadSection(Reader &reader) : reader_{reader}
	{
		reader.depth_.fetch_add(1, std::memory_order_seq_cst);
	}
	~SharedReadSection() { reader_.depth_.fetch_sub(1, std::memory_order_release); }

    private:
	Reader &reader_;
};

// All readers of one VM.
class Readers : host::Pinned {
    public:
	// Waits until every reader that read when it was called has stopped once. May sleep.
	void drain()
	{
		std::atomic_thread_fence(std::memory_order_seq_cst);
		host::Mutex::Guard guard{lock_};
		for (Reader *reader = first_; reader; reader = reader->next_)
			while (reader->depth_.load(std::memory_order_acquire))
				kvmpp_pause();
	}

    private:
	friend class Reader;

	host::Mutex lock_{host::LockClass::readers};
	Reader *first_ = nullptr;
};

inline Reader::Reader(Readers &readers) : readers_{readers}
{
	host::Mutex::Guard guard{readers.lock_};
	next_ = std::exchange(readers.first_, this);
}

inline Reader::~Reader()
{
	host::Mutex::Guard guard{readers_.lock_};
	for (Reader **link = &readers_.first_; *link; link = &(*link)->next_) {
		if (*link == this) {
			*link = next_;
			return;
		}
	}
}

// The current table. Readers hold a section; writers a lock of their own.
template <class Table>
class Published : host::Pinned {
    public:
	explicit Published(host::Own<Table> first) : current_{first.release()} {}
	~Published() { host::Own<Table> last{current_.load(std::memory_order_relaxed)}; }

	template <class Section>
	const Table &read(const Section &) const
	{
		static_assert(std::is_same_v<Section, ReadSection> ||
			      std::is_same_v<Section, SharedReadSection>);
		return *current_.load(std::memory_order_acquire);
	}
	// For the writer itself.
	Table &latest() const { return *current_.load(std::memory_order_relaxed); }

	// Readers see the new table at once; the old one is the caller's to drop after a drain.
	[[nodiscard]] host::Own<Table> replace(host::Own<Table> fresh)
	{
		return host::Own<Table>{
			current_.exchange(fresh.release(), std::memory_order_acq_rel)};
	}

    private:
	std::atomic<Table *> current_;
};

} // namespace kvmpp::machine
