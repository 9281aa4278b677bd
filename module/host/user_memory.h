// SPDX-License-Identifier: GPL-2.0-only
// The VMM's memory, seen from one of its threads. Everything here may sleep, but for user_write_atomic.
#pragma once

#include <type_traits>
#include "host/result.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::host
{

inline Result<> user_read(void *to, Hva from, usize size)
{
	if (kvmpp_user_read(to, from.value, size))
		return fail(EFAULT);
	return {};
}

inline Result<> user_write(Hva to, const void *from, usize size)
{
	if (kvmpp_user_write(to.value, from, size))
		return fail(EFAULT);
	return {};
}

inline Result<> user_write_atomic(Hva to, const void *from, usize size)
{
	if (kvmpp_user_write_atomic(to.value, from, size))
		return fail(EFAULT);
	return {};
}

// A whole struct, copied once. EFAULT.
template <class T>
Result<T> user_get(Hva from)
{
	static_assert(std::is_trivially_copyable_v<T>);
	T value;
	TRY(user_read(&value, from, sizeof(value)));
	return value;
}

template <class T>
Result<> user_put(Hva to, const T &value)
{
	static_assert(std::is_trivially_copyable_v<T>);
	return user_write(to, &value, sizeof(value));
}

// A page of user memory, referenced for its lifetime.
class UserPage {
    public:
	UserPage(UserPage &&other)
		: page_{other.page_}, held_{std::exchange(other.held_, false)}, dirty_{other.dirty_}
	{
	}
	~UserPage()
	{
		if (held_)
			kvmpp_user_page_put(&page_, dirty_);
	}

	// EFAULT: nothing usable is mapped there; EAGAIN: it changed meanwhile; EINTR: a signal
	// came first; EBUSY: somebody has to bring it first, and the caller does not wait.
	static Result<UserPage> get(Hva address, bool write, bool wait)
	{
		UserPage page;
		TRY(result_of(kvmpp_user_page_get(address.value, write, wait, &page.page_)));
		page.held_ = true;
		return page;
	}

	// A guest may write to it from now on.
	void will_be_dirty() { dirty_ = true; }

	Pfn pfn() const { return {page_.pfn}; }
	bool writable() const { return page_.writable; }
	bool is_device() const { return page_.device; }

    private:
	UserPage() = default;

	kvmpp_user_page page_{};
	bool held_ = false, dirty_ = false;
};

// A page of user memory that a thread of the host's brings in. With the end of this nobody hears of it.
class PageIn {
    public:
	PageIn() = default;
	PageIn(PageIn &&other) : started_{std::exchange(other.started_, nullptr)} {}
	PageIn &operator=(PageIn &&other)
	{
		std::swap(started_, other.started_);
		return *this;
	}
	~PageIn() { kvmpp_page_in_forget(started_); }

	// done(context) is called once, by another thread, and does not sleep. ENOMEM; EAGAIN: too many.
	static Result<PageIn> start(Hva address, bool write, void (*done)(void *context), void *context)
	{
		PageIn page;
		TRY(result_of(kvmpp_page_in_start(address.value, write, done, context, &page.started_)));
		return page;
	}

	explicit operator bool() const { return started_ != nullptr; }

    private:
	kvmpp_page_in *started_ = nullptr;
};

} // namespace kvmpp::host
