// SPDX-License-Identifier: GPL-2.0-only
// Locks, and Locked<T>: data that can be reached only while its lock is held.
#pragma once

#include <utility>
#include "host/lock_order.h"
#include "host/result.h"
#include "host/seam.h"

namespace kvmpp::host
{

// Which lock it is: its place in the order in which they are taken (lock_order.h).
enum class LockClass : unsigned char {
#define KVMPP_LOCK(name) name,
	KVMPP_LOCKS(KVMPP_LOCK)
#undef KVMPP_LOCK
};

constexpr kvmpp_lock_class to_host(LockClass which)
{
	return static_cast<kvmpp_lock_class>(which);
}

// Not copied, not moved: others hold its address.
class Pinned {
    public:
	Pinned() = default;
	Pinned(const Pinned &) = delete;
	Pinned &operator=(const Pinned &) = delete;
};

// May sleep while it is taken and held. Process context.
class Mutex : Pinned {
    public:
	explicit Mutex(LockClass which) { kvmpp_mutex_init(&storage_, to_host(which)); }

	class Guard : Pinned {
	    public:
		explicit Guard(Mutex &mutex) : mutex_{mutex} { kvmpp_mutex_lock(&mutex.storage_); }
		~Guard() { kvmpp_mutex_unlock(&mutex_.storage_); }

	    private:
		Mutex &mutex_;
	};

	void lock() { kvmpp_mutex_lock(&storage_); }
	// EINTR when a fatal signal came first.
	Result<> lock_killable() { return result_of(kvmpp_mutex_lock_killable(&storage_)); }
	// Whether it was free.
	bool try_lock() { return kvmpp_mutex_try_lock(&storage_); }
	void unlock() { kvmpp_mutex_unlock(&storage_); }

    private:
	kvmpp_mutex storage_;
};

// Interrupts are off while it is held. Any context; the holder does not sleep.
class SpinLock : Pinned {
    public:
	explicit SpinLock(LockClass which) { kvmpp_spin_init(&storage_, to_host(which)); }

	class Guard : Pinned {
	    public:
		explicit Guard(SpinLock &lock) : lock_{lock}, flags_{kvmpp_spin_lock(&lock.storage_)} {}
		~Guard() { kvmpp_spin_unlock(&lock_.storage_, flags_); }

	    private:
		SpinLock &lock_;
		unsigned long flags_;
	};

    private:
	kvmpp_spinlock storage_;
};

// Many readers or one writer; process context; holders do not sleep.
class RwLock : Pinned {
    public:
	explicit RwLock(LockClass which) { kvmpp_rwlock_init(&storage_, to_host(which)); }

	class ReadGuard : Pinned {
	    public:
		explicit ReadGuard(RwLock &lock) : lock_{lock} { kvmpp_read_lock(&lock.storage_); }
		~ReadGuard() { kvmpp_read_unlock(&lock_.storage_); }

	    private:
		RwLock &lock_;
	};

	class WriteGuard : Pinned {
	    public:
		explicit WriteGuard(RwLock &lock) : lock_{lock} { kvmpp_write_lock(&lock.storage_); }
		~WriteGuard() { kvmpp_write_unlock(&lock_.storage_); }

	    private:
		RwLock &lock_;
	};

    private:
	kvmpp_rwlock storage_;
};

template <class T, LockClass which, class Lock = Mutex>
class Locked : Pinned {
    public:
	template <class... Arguments>
	explicit Locked(Arguments &&...arguments) : data_{std::forward<Arguments>(arguments)...}
	{
	}

	// Calls use(data) with the lock held and returns what it returns. Nothing of the data may
	// leave by reference.
	template <class Use>
	auto with(Use &&use)
	{
		typename Lock::Guard guard{lock_};
		return std::forward<Use>(use)(data_);
	}

    private:
	Lock lock_{which};
	T data_;
};

} // namespace kvmpp::host
