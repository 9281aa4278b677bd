// SPDX-License-Identifier: GPL-2.0-only
// The VMM's memory: parts of the test's own that it has shown to the simulated kernel. Anything else
// faults.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include "host/types.h"

namespace kvmpp::sim
{

// away: somebody has to bring the page first (a disk, another process). Whoever waits for it gets it at once.
enum class PageState : u8 { mapped, read_only, unmapped, poisoned, away };

// Memory for a guest, whose mappings change. Pages know who holds references.
class UserMemory {
public:
	// mapping_shift: the size of the host's own mappings, 12, 21 or 30, which is the alignment, too.
	explicit UserMemory(u64 pages, unsigned mapping_shift = page_shift);
	~UserMemory();
	UserMemory(const UserMemory &) = delete;

	u64 address() const { return reinterpret_cast<u64>(memory_); }
	u8 *data() const { return memory_; }
	u64 size() const { return pages_ * page_size; }
	u64 pages() const { return pages_; }
	template <class T>
	T &at(u64 offset) const
	{
		return *reinterpret_cast<T *>(memory_ + offset);
	}

	// As mmap, mprotect and munmap do: whoever watches the address space is told around it.
	void change(u64 first, u64 count, PageState state);
	// The guest's use of the pages, as reclaim asks for it.
	bool young(u64 first, u64 count, bool clear);
	// References to pages that nobody has given back.
	unsigned references() const;
	bool dirty(u64 page) const;

	// Memory of a device: no reference, uncacheable.
	bool device = false;

private:
	friend struct UserPages;
	struct Page {
		std::atomic<PageState> state{PageState::mapped};
		std::atomic<unsigned> references{0};
		std::atomic<bool> dirty{false};
	};

	u8 *memory_;
	u64 pages_;
	unsigned mapping_shift_;
	std::unique_ptr<Page[]> page_;
};

// Memory of the calling thread that the kernel may use while one lives: the argument of an ioctl. The
// end of it is exact.
class UserArgument {
public:
	UserArgument(const void *start, usize size, bool writable = true);
	~UserArgument();
	UserArgument(const UserArgument &) = delete;
};

// Pages that threads of the host's are bringing in, and how many threads have waited for one themselves.
usize page_ins();
u64 waits_for_pages();
// Whoever brings a page: it is mapped from now on, if it was away.
bool bring_page(u64 address);
// So many of them, the first ones first, come and are reported.
void finish_page_ins(usize count = ~usize{0});

// A guest's access by EPT. Ends the test if the page has been taken from the guest.
void check_guest_access(u64 address, bool write);

} // namespace kvmpp::sim
