// SPDX-License-Identifier: GPL-2.0-only
/* Watching an address space: MMU notifiers. */
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include "host/seam.h"
#include "linux/objects.h"

static struct mm_watch_object *object_of(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct mm_watch_object, notifier);
}

static int invalidate_range_start(struct mmu_notifier *notifier,
				  const struct mmu_notifier_range *range)
{
	return kvmpp_mm_invalidate_begin(object_of(notifier)->owner, range->start, range->end,
					 mmu_notifier_range_blockable(range));
}

static void invalidate_range_end(struct mmu_notifier *notifier,
				 const struct mmu_notifier_range *range)
{
	kvmpp_mm_invalidate_end(object_of(notifier)->owner, range->start, range->end);
}

static int clear_flush_young(struct mmu_notifier *notifier, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	return kvmpp_mm_young(object_of(notifier)->owner, start, end, true);
}

static int test_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long address)
{
	return kvmpp_mm_young(object_of(notifier)->owner, address, address + 1, false);
}

/* The address space is going away with all its mappings, before the VM's descriptors are closed. */
static void release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	kvmpp_mm_invalidate_begin(object_of(notifier)->owner, 0, ~0UL, true);
	kvmpp_mm_invalidate_end(object_of(notifier)->owner, 0, ~0UL);
}

static const struct mmu_notifier_ops operations = {
	.invalidate_range_start = invalidate_range_start,
	.invalidate_range_end = invalidate_range_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_flush_young,
	.test_young = test_young,
	.release = release,
};

int kvmpp_mm_watch_start(struct kvmpp_mm_watch *watch, void *owner)
{
	struct mm_watch_object *object = (struct mm_watch_object *)watch->bytes;

	object->owner = owner;
	object->notifier.ops = &operations;
	return mmu_notifier_register(&object->notifier, current->mm);
}

void kvmpp_mm_watch_stop(struct kvmpp_mm_watch *watch)
{
	struct mm_watch_object *object = (struct mm_watch_object *)watch->bytes;

	mmu_notifier_unregister(&object->notifier, object->notifier.mm);
}

int kvmpp_mm_is_current(const struct kvmpp_mm_watch *watch)
{
	const struct mm_watch_object *object = (const struct mm_watch_object *)watch->bytes;

	return object->notifier.mm == current->mm;
}
