// SPDX-License-Identifier: GPL-2.0-only
/* Locks of the seam. */
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include "host/seam.h"

/* One class for each name of the order, whatever object the lock is in. */
static struct lock_class_key class_keys[KVMPP_LOCK_CLASSES];
static const char *const class_names[] = {
#define KVMPP_LOCK(name) "kvmpp:" #name,
	KVMPP_LOCKS(KVMPP_LOCK)
#undef KVMPP_LOCK
};

static struct mutex *mutex_of(struct kvmpp_mutex *storage)
{
	return (struct mutex *)storage->bytes;
}

static raw_spinlock_t *spinlock_of(struct kvmpp_spinlock *storage)
{
	return (raw_spinlock_t *)storage->bytes;
}

static rwlock_t *rwlock_of(struct kvmpp_rwlock *storage)
{
	return (rwlock_t *)storage->bytes;
}

void kvmpp_mutex_init(struct kvmpp_mutex *mutex, enum kvmpp_lock_class which)
{
	mutex_init(mutex_of(mutex));
	lockdep_set_class_and_name(mutex_of(mutex), &class_keys[which], class_names[which]);
}

void kvmpp_mutex_lock(struct kvmpp_mutex *mutex)
{
	mutex_lock(mutex_of(mutex));
}

int kvmpp_mutex_lock_killable(struct kvmpp_mutex *mutex)
{
	return mutex_lock_killable(mutex_of(mutex));
}

int kvmpp_mutex_try_lock(struct kvmpp_mutex *mutex)
{
	return mutex_trylock(mutex_of(mutex));
}

void kvmpp_mutex_unlock(struct kvmpp_mutex *mutex)
{
	mutex_unlock(mutex_of(mutex));
}

void kvmpp_spin_init(struct kvmpp_spinlock *lock, enum kvmpp_lock_class which)
{
	raw_spin_lock_init(spinlock_of(lock));
	lockdep_set_class_and_name(spinlock_of(lock), &class_keys[which], class_names[which]);
}

unsigned long kvmpp_spin_lock(struct kvmpp_spinlock *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(spinlock_of(lock), flags);
	return flags;
}

void kvmpp_spin_unlock(struct kvmpp_spinlock *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore(spinlock_of(lock), flags);
}

void kvmpp_rwlock_init(struct kvmpp_rwlock *lock, enum kvmpp_lock_class which)
{
	rwlock_init(rwlock_of(lock));
	lockdep_set_class_and_name(rwlock_of(lock), &class_keys[which], class_names[which]);
}

void kvmpp_read_lock(struct kvmpp_rwlock *lock)
{
	read_lock(rwlock_of(lock));
}

void kvmpp_read_unlock(struct kvmpp_rwlock *lock)
{
	read_unlock(rwlock_of(lock));
}

void kvmpp_write_lock(struct kvmpp_rwlock *lock)
{
	write_lock(rwlock_of(lock));
}

void kvmpp_write_unlock(struct kvmpp_rwlock *lock)
{
	write_unlock(rwlock_of(lock));
}

int kvmpp_rwlock_needs_break(struct kvmpp_rwlock *lock)
{
	return need_resched() || rwlock_needbreak(rwlock_of(lock));
}
