// SPDX-License-Identifier: GPL-2.0-only
#include "sim/user/memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <vector>
#include <sys/mman.h>
#include "sim/cpu/cpus.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/user/watch.h"

namespace kvmpp::sim
{
namespace
{

struct Argument {
	u64 start, size;
	bool writable;
};

thread_local std::vector<Argument> arguments;

std::shared_mutex lock;
std::vector<UserMemory *> &memories()
{
	static std::vector<UserMemory *> all;
	return all;
}

UserMemory *memory_at(u64 address)
{
	std::shared_lock guard{lock};
	for (UserMemory *memory : memories())
		if (address - memory->address() < memory->size())
			return memory;
	return nullptr;
}

} // namespace

struct UserPages {
	using Page = UserMemory::Page;
	struct Found {
		UserMemory *memory = nullptr;
		Page *page = nullptr;
	};
	static Found at(u64 address)
	{
		UserMemory *memory = memory_at(address);
		if (!memory)
			return {};
		return {memory, &memory->page_[(address - memory->address()) >> page_shift]};
	}
	static bool allows(PageState state, bool write)
	{
		return state == PageState::mapped || (state == PageState::read_only && !write);
	}
	// As mapped from now on, if somebody only has to bring it.
	static bool bring(u64 address)
	{
		Page *page = at(address).page;
		PageState away = PageState::away;
		return page && page->state.compare_exchange_strong(away, PageState::mapped);
	}
	static void bring(u64 address, usize size)
	{
		for (u64 place = address; size && place - address < size + page_size; place += page_size)
			waits += bring(std::min(place, address + size - 1));
	}
	static inline std::atomic<u64> waits{0};
	// How many of the bytes from `address` on can be accessed.
	static usize reach(u64 address, usize size, bool write)
	{
		for (const Argument &argument : arguments)
			if (address - argument.start < argument.size && (!write || argument.writable))
				return std::min<u64>(size, argument.start + argument.size - address);
		usize done = 0;
		while (done < size) {
			const Page *page = at(address + done).page;
			if (!page || !allows(page->state, write))
				break;
			done += std::min<usize>(size - done, page_size - ((address + done) & (page_size - 1)));
		}
		return done;
	}
	static unsigned shift(const UserMemory &memory) { return memory.mapping_shift_; }
};

UserMemory::UserMemory(u64 pages, unsigned mapping_shift)
	: pages_{pages}, mapping_shift_{mapping_shift}, page_{new Page[pages]}
{
	const u64 alignment = bit(mapping_shift), room = size() + alignment;
	void *mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapped == MAP_FAILED)
		die("no memory for a guest");
	auto *start = static_cast<u8 *>(mapped);
	const u64 skip = -reinterpret_cast<u64>(start) & (alignment - 1);
	memory_ = start + skip;
	if (skip)
		munmap(start, skip);
	munmap(memory_ + size(), alignment - skip);
	std::lock_guard guard{lock};
	memories().push_back(this);
}

UserMemory::~UserMemory()
{
	if (references())
		die("%u pages of user memory were never given back", references());
	// The end of a mapping, for those who watch.
	change(0, pages_, PageState::unmapped);
	{
		std::lock_guard guard{lock};
		std::erase(memories(), this);
	}
	munmap(memory_, size());
}

void UserMemory::change(u64 first, u64 count, PageState state)
{
	const u64 start = address() + first * page_size, end = start + count * page_size;
	InKernel kernel;
	tell_watches(start, end, [&] {
		for (u64 i = first; i < first + count; ++i)
			page_[i].state = state;
	});
}

bool UserMemory::young(u64 first, u64 count, bool clear)
{
	InKernel kernel;
	return ask_watches_for_use(
		address() + first * page_size, address() + (first + count) * page_size, clear);
}

unsigned UserMemory::references() const
{
	unsigned result = 0;
	for (u64 i = 0; i < pages_; ++i)
		result += page_[i].references;
	return result;
}

bool UserMemory::dirty(u64 page) const
{
	return page_[page].dirty;
}

UserArgument::UserArgument(const void *start, usize size, bool writable)
{
	arguments.push_back({reinterpret_cast<u64>(start), size, writable});
}

UserArgument::~UserArgument()
{
	arguments.pop_back();
}

u64 waits_for_pages()
{
	return UserPages::waits;
}

bool bring_page(u64 address)
{
	return UserPages::bring(address);
}

void check_guest_access(u64 address, bool write)
{
	const auto found = UserPages::at(address);
	if (!found.page)
		die("a guest reaches memory at %#llx that is not its VMM's", address);
	if (!UserPages::allows(found.page->state, write))
		die("a guest reaches a page that was taken away");
}

} // namespace kvmpp::sim

using namespace kvmpp;
using kvmpp::sim::UserPages;

size_t kvmpp_user_read(void *to, __u64 from, size_t size)
{
	sim::might_sleep("a read of user memory");
	UserPages::bring(from, size);
	return kvmpp_user_read_atomic(to, from, size);
}

size_t kvmpp_user_read_atomic(void *to, __u64 from, size_t size)
{
	if (sim::fails_now(sim::Fallible::user_memory))
		return size;
	if (!size)
		return 0;
	const usize reach = UserPages::reach(from, size, false);
	if (reach)
		std::memcpy(to, reinterpret_cast<const void *>(from), reach);
	// As the kernel does with the rest.
	std::memset(static_cast<u8 *>(to) + reach, 0, size - reach);
	return size - reach;
}

size_t kvmpp_user_write(__u64 to, const void *from, size_t size)
{
	sim::might_sleep("a write of user memory");
	UserPages::bring(to, size);
	return kvmpp_user_write_atomic(to, from, size);
}

size_t kvmpp_user_write_atomic(__u64 to, const void *from, size_t size)
{
	if (sim::fails_now(sim::Fallible::user_memory))
		return size;
	if (!size)
		return 0;
	const usize reach = UserPages::reach(to, size, true);
	if (reach)
		std::memcpy(reinterpret_cast<void *>(to), from, reach);
	return size - reach;
}

int kvmpp_user_range_ok(__u64 address, __u64 size)
{
	constexpr u64 end_of_user_space = 0x7ffffffff000;
	return size <= end_of_user_space && address <= end_of_user_space - size;
}

int kvmpp_user_compare_exchange(__u64 address, unsigned int size, __u64 *expected, __u64 desired)
{
	sim::might_sleep("an exchange in user memory");
	UserPages::bring(address, size);
	if (sim::fails_now(sim::Fallible::user_memory) || address & (size - 1) ||
		UserPages::reach(address, size, true) < size)
		return -EFAULT;
	const auto exchange = [&]<class T>(T) {
		T old = static_cast<T>(*expected);
		const bool equal = __atomic_compare_exchange_n(reinterpret_cast<T *>(address), &old,
			static_cast<T>(desired), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*expected = old;
		return equal ? 0 : -EAGAIN;
	};
	switch (size) {
	case 1: return exchange(u8{});
	case 2: return exchange(u16{});
	case 4: return exchange(u32{});
	case 8: return exchange(u64{});
	default: return -EFAULT;
	}
}

int kvmpp_user_page_get(__u64 address, int write, int wait, kvmpp_user_page *page)
{
	sim::might_sleep("looking a user page up");
	if (sim::this_thread().signal)
		return -EINTR;
	const auto found = UserPages::at(address);
	if (!wait && found.page && found.page->state == sim::PageState::away)
		return -EBUSY;
	UserPages::bring(address, 1);
	return kvmpp_user_page_get_fast(address, write, page);
}

int kvmpp_user_page_get_fast(__u64 address, int write, kvmpp_user_page *page)
{
	if (sim::fails_now(sim::Fallible::user_memory))
		return -EFAULT;
	const auto [memory, found] = UserPages::at(address);
	if (!found)
		return -EFAULT;
	const sim::PageState state = found->state;
	if (state == sim::PageState::poisoned)
		return -EHWPOISON;
	if (state == sim::PageState::away)
		return -EAGAIN;
	if (!UserPages::allows(state, write))
		return -EFAULT;
	*page = {.pfn = address >> page_shift,
		.writable = state == sim::PageState::mapped,
		.counted = !memory->device,
		.device = memory->device,
		.reserved = {}};
	if (page->counted)
		++found->references;
	return 0;
}

void kvmpp_user_page_put(const kvmpp_user_page *page, int dirty)
{
	if (!page->counted)
		return;
	const auto found = UserPages::at(page->pfn << page_shift);
	if (!found.page || !found.page->references)
		sim::die("gives a page of user memory back that it has not got");
	if (dirty)
		found.page->dirty = true;
	--found.page->references;
}

unsigned int kvmpp_user_mapping_shift(__u64 address)
{
	const auto found = UserPages::at(address);
	return found.memory ? UserPages::shift(*found.memory) : page_shift;
}
