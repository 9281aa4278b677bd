// SPDX-License-Identifier: GPL-2.0-only
// Locks of the simulated host: threads' mutexes that know their holder, so that a lock taken twice
// ends the test instead of hanging it.
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

pthread_mutex_t &init(pthread_mutex_t &mutex)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return mutex;
}

void lock(pthread_mutex_t &mutex, const char *kind)
{
	if (int error = pthread_mutex_lock(&mutex))
		sim::die("%s: lock failed with %d (35: its holder takes it again)", kind, error);
}

void unlock(pthread_mutex_t &mutex, const char *kind)
{
	if (int error = pthread_mutex_unlock(&mutex))
		sim::die("%s: unlock failed with %d (1: another holds it)", kind, error);
}

// Interrupts are on while a thread spins for such a lock, so that its holder can wait for this CPU.
template <class Try>
void spin(Try &&attempt)
{
	sim::enter_atomic();
	while (const int error = attempt()) {
		if (error != EBUSY)
			sim::die("rwlock: lock failed with %d", error);
		if (sim::hooks.interrupts)
			sim::hooks.interrupts();
		sched_yield();
	}
}

} // namespace

void kvmpp_mutex_init(kvmpp_mutex *mutex)
{
	sim::construct_in<pthread_mutex_t>(mutex);
	init(sim::object_in<pthread_mutex_t>(mutex));
}

void kvmpp_mutex_lock(kvmpp_mutex *mutex)
{
	sim::might_sleep("a mutex");
	auto &real = sim::object_in<pthread_mutex_t>(mutex);
	// Whoever has to wait gives its CPU up.
	if (pthread_mutex_trylock(&real)) {
		if (sim::hooks.block)
			sim::hooks.block();
		lock(real, "mutex");
		if (sim::hooks.resume)
			sim::hooks.resume();
	}
	++sim::this_thread().mutexes;
}

int kvmpp_mutex_lock_killable(kvmpp_mutex *mutex)
{
	if (sim::this_thread().killed || sim::fails_now(sim::Fallible::host_call))
		return -EINTR;
	kvmpp_mutex_lock(mutex);
	return 0;
}

void kvmpp_mutex_unlock(kvmpp_mutex *mutex)
{
	--sim::this_thread().mutexes;
	unlock(sim::object_in<pthread_mutex_t>(mutex), "mutex");
}

void kvmpp_spin_init(kvmpp_spinlock *spinlock)
{
	sim::construct_in<pthread_mutex_t>(spinlock);
	init(sim::object_in<pthread_mutex_t>(spinlock));
}

unsigned long kvmpp_spin_lock(kvmpp_spinlock *spinlock)
{
	sim::enter_atomic();
	lock(sim::object_in<pthread_mutex_t>(spinlock), "spinlock");
	return 0;
}

void kvmpp_spin_unlock(kvmpp_spinlock *spinlock, unsigned long)
{
	unlock(sim::object_in<pthread_mutex_t>(spinlock), "spinlock");
	sim::leave_atomic();
}

void kvmpp_rwlock_init(kvmpp_rwlock *rwlock)
{
	sim::construct_in<pthread_rwlock_t>(rwlock);
	pthread_rwlock_init(&sim::object_in<pthread_rwlock_t>(rwlock), nullptr);
}

void kvmpp_read_lock(kvmpp_rwlock *rwlock)
{
	spin([&] { return pthread_rwlock_tryrdlock(&sim::object_in<pthread_rwlock_t>(rwlock)); });
}

void kvmpp_read_unlock(kvmpp_rwlock *rwlock)
{
	pthread_rwlock_unlock(&sim::object_in<pthread_rwlock_t>(rwlock));
	sim::leave_atomic();
}

void kvmpp_write_lock(kvmpp_rwlock *rwlock)
{
	spin([&] { return pthread_rwlock_trywrlock(&sim::object_in<pthread_rwlock_t>(rwlock)); });
}

void kvmpp_write_unlock(kvmpp_rwlock *rwlock)
{
	pthread_rwlock_unlock(&sim::object_in<pthread_rwlock_t>(rwlock));
	sim::leave_atomic();
}

int kvmpp_rwlock_needs_break(kvmpp_rwlock *)
{
	return 0;
}
