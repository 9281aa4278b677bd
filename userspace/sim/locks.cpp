// SPDX-License-Identifier: GPL-2.0-only
// Locks of the simulated host: threads' mutexes that know their holder and their place in the order, so
// that a lock taken twice, or before another's turn, ends the test instead of hanging it one day.
#include <bit>
#include <cerrno>
#include <pthread.h>
#include <sched.h>
#include "host/seam.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/thread.h"

using namespace kvmpp;

namespace
{

template <class Native>
struct Ordered {
	Native native;
	kvmpp_lock_class which;
};

using Mutex = Ordered<pthread_mutex_t>;
using RwLock = Ordered<pthread_rwlock_t>;

constexpr const char *names[] = {
#define KVMPP_LOCK(name) #name,
	KVMPP_LOCKS(KVMPP_LOCK)
#undef KVMPP_LOCK
};
static_assert(KVMPP_LOCK_CLASSES <= 32);

void take_in_order(kvmpp_lock_class which)
{
	u32 &held = sim::this_thread().locks;
	if (const u32 later = held >> which)
		sim::die("lock order: %s is taken while %s is held", names[which],
			names[which + std::bit_width(later) - 1]);
	held |= u32{1} << which;
}

void give_back(kvmpp_lock_class which)
{
	sim::this_thread().locks &= ~(u32{1} << which);
}

void init(Mutex &mutex, kvmpp_lock_class which)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex.native, &attributes);
	pthread_mutexattr_destroy(&attributes);
	mutex.which = which;
}

void lock(Mutex &mutex)
{
	if (int error = pthread_mutex_lock(&mutex.native))
		sim::die("%s: lock failed with %d", names[mutex.which], error);
}

void unlock(Mutex &mutex)
{
	if (int error = pthread_mutex_unlock(&mutex.native))
		sim::die("%s: unlock failed with %d (1: another holds it)", names[mutex.which], error);
	give_back(mutex.which);
}

// Interrupts are on while a thread spins for such a lock, so that its holder can wait for this CPU.
template <class Try>
void spin(kvmpp_lock_class which, Try &&attempt)
{
	take_in_order(which);
	sim::enter_atomic();
	while (const int error = attempt()) {
		if (error != EBUSY)
			sim::die("%s: lock failed with %d", names[which], error);
		if (sim::hooks.interrupts)
			sim::hooks.interrupts();
		sched_yield();
	}
}

} // namespace

void kvmpp_mutex_init(kvmpp_mutex *mutex, kvmpp_lock_class which)
{
	sim::construct_in<Mutex>(mutex);
	init(sim::object_in<Mutex>(mutex), which);
}

void kvmpp_mutex_lock(kvmpp_mutex *mutex)
{
	sim::might_sleep("a mutex");
	auto &real = sim::object_in<Mutex>(mutex);
	take_in_order(real.which);
	// Whoever has to wait gives its CPU up.
	if (pthread_mutex_trylock(&real.native)) {
		if (sim::hooks.block)
			sim::hooks.block();
		lock(real);
		if (sim::hooks.resume)
			sim::hooks.resume();
	}
}

int kvmpp_mutex_lock_killable(kvmpp_mutex *mutex)
{
	if (sim::this_thread().killed || sim::fails_now(sim::Fallible::host_call))
		return -EINTR;
	kvmpp_mutex_lock(mutex);
	return 0;
}

int kvmpp_mutex_try_lock(kvmpp_mutex *mutex)
{
	sim::might_sleep("a mutex");
	auto &real = sim::object_in<Mutex>(mutex);
	take_in_order(real.which);
	if (!pthread_mutex_trylock(&real.native))
		return 1;
	give_back(real.which);
	return 0;
}

void kvmpp_mutex_unlock(kvmpp_mutex *mutex)
{
	unlock(sim::object_in<Mutex>(mutex));
}

void kvmpp_spin_init(kvmpp_spinlock *spinlock, kvmpp_lock_class which)
{
	sim::construct_in<Mutex>(spinlock);
	init(sim::object_in<Mutex>(spinlock), which);
}

unsigned long kvmpp_spin_lock(kvmpp_spinlock *spinlock)
{
	auto &real = sim::object_in<Mutex>(spinlock);
	take_in_order(real.which);
	sim::enter_atomic();
	lock(real);
	return 0;
}

void kvmpp_spin_unlock(kvmpp_spinlock *spinlock, unsigned long)
{
	unlock(sim::object_in<Mutex>(spinlock));
	sim::leave_atomic();
}

void kvmpp_rwlock_init(kvmpp_rwlock *rwlock, kvmpp_lock_class which)
{
	sim::construct_in<RwLock>(rwlock);
	auto &real = sim::object_in<RwLock>(rwlock);
	pthread_rwlock_init(&real.native, nullptr);
	real.which = which;
}

void kvmpp_read_lock(kvmpp_rwlock *rwlock)
{
	auto &real = sim::object_in<RwLock>(rwlock);
	spin(real.which, [&] { return pthread_rwlock_tryrdlock(&real.native); });
}

void kvmpp_read_unlock(kvmpp_rwlock *rwlock)
{
	auto &real = sim::object_in<RwLock>(rwlock);
	pthread_rwlock_unlock(&real.native);
	give_back(real.which);
	sim::leave_atomic();
}

void kvmpp_write_lock(kvmpp_rwlock *rwlock)
{
	auto &real = sim::object_in<RwLock>(rwlock);
	spin(real.which, [&] { return pthread_rwlock_trywrlock(&real.native); });
}

void kvmpp_write_unlock(kvmpp_rwlock *rwlock)
{
	// The same call gives back either kind.
	kvmpp_read_unlock(rwlock);
}

int kvmpp_rwlock_needs_break(kvmpp_rwlock *)
{
	return 0;
}
