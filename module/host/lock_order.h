/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's locks, in the order in which they are taken: whoever holds one takes only such that
 * stand below it, and never two of one name. The simulated host ends a test that does otherwise;
 * lockdep knows each by its name. What they protect: docs/locking.md.
 */
#ifndef KVMPP_HOST_LOCK_ORDER_H
#define KVMPP_HOST_LOCK_ORDER_H

#define KVMPP_LOCKS(LOCK)                                                                          \
	/* mutexes */                                                                              \
	LOCK(vcpu)                                                                                 \
	LOCK(vm)                                                                                   \
	LOCK(irqfds)                                                                               \
	LOCK(ioeventfds)                                                                           \
	LOCK(coalesced_zones)                                                                      \
	LOCK(memory_map)                                                                           \
	LOCK(pit)                                                                                  \
	LOCK(io_bus)                                                                               \
	LOCK(listeners)                                                                            \
	LOCK(readers)                                                                              \
	LOCK(restored_tsc)                                                                         \
	LOCK(vm_count)                                                                             \
	LOCK(vtx_users)                                                                            \
	/* reader-writer locks and spinlocks: nobody sleeps below here */                          \
	LOCK(ept)                                                                                  \
	LOCK(pit_ticks)                                                                            \
	LOCK(coalesced_ring)                                                                       \
	LOCK(ioapic)                                                                               \
	LOCK(pic)                                                                                  \
	LOCK(gsi_routes)                                                                           \
	LOCK(clock)                                                                                \
	LOCK(vpids)                                                                                \
	LOCK(named_thread)

enum kvmpp_lock_class {
#define KVMPP_LOCK(name) KVMPP_LOCK_##name,
	KVMPP_LOCKS(KVMPP_LOCK)
#undef KVMPP_LOCK
	KVMPP_LOCK_CLASSES
};

#endif
