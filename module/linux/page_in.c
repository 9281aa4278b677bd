// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of a process that a worker brings in, while a thread of the process goes on.
 *
 * Nobody waits for a worker: it may wait itself for as long as a disk or another process likes. It holds
 * what it needs, the address space and the module, and whoever does not want to hear of the page any more
 * takes his name off it.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include "host/seam.h"
#include "linux/parts.h"

/* No more at once, so that none stands in a queue behind those that wait for ever. */
#define MOST_WORKERS 256

struct kvmpp_page_in {
	struct work_struct work;
	struct mm_struct *mm;
	unsigned long address;
	bool write;
	refcount_t users; /* the worker, and who has started it */
	raw_spinlock_t lock;
	void (*done)(void *context); /* NULL: forgotten */
	void *context;
};

static struct workqueue_struct *workers;
static atomic_t busy_workers;

static void put(struct kvmpp_page_in *page_in)
{
	if (refcount_dec_and_test(&page_in->users))
		kfree(page_in);
}

static void bring_in(struct mm_struct *mm, unsigned long address, bool write)
{
	int locked = 1;

	/* Its process may be gone. */
	if (!mmget_not_zero(mm))
		return;
	mmap_read_lock(mm);
	get_user_pages_remote(mm, address, 1, write ? FOLL_WRITE : 0, NULL, NULL, &locked);
	if (locked)
		mmap_read_unlock(mm);
	mmput(mm);
}

static void work(struct work_struct *item)
{
	struct kvmpp_page_in *page_in = container_of(item, struct kvmpp_page_in, work);
	unsigned long flags;

	bring_in(page_in->mm, page_in->address, page_in->write);
	mmdrop(page_in->mm);
	raw_spin_lock_irqsave(&page_in->lock, flags);
	if (page_in->done)
		page_in->done(page_in->context);
	raw_spin_unlock_irqrestore(&page_in->lock, flags);
	put(page_in);
	atomic_dec(&busy_workers);
	/* The way out of here is the module's code still: its end waits for the workers. */
	module_put(THIS_MODULE);
}

int kvmpp_page_in_start(__u64 address, int write, void (*done)(void *context), void *context,
			struct kvmpp_page_in **out)
{
	struct kvmpp_page_in *page_in;

	if (!atomic_add_unless(&busy_workers, 1, MOST_WORKERS))
		return -EAGAIN;
	page_in = kzalloc(sizeof(*page_in), GFP_KERNEL_ACCOUNT);
	if (!page_in) {
		atomic_dec(&busy_workers);
		return -ENOMEM;
	}
	INIT_WORK(&page_in->work, work);
	page_in->mm = current->mm;
	mmgrab(page_in->mm);
	__module_get(THIS_MODULE);
	page_in->address = address;
	page_in->write = write;
	refcount_set(&page_in->users, 2);
	raw_spin_lock_init(&page_in->lock);
	page_in->done = done;
	page_in->context = context;
	*out = page_in;
	queue_work(workers, &page_in->work);
	return 0;
}

void kvmpp_page_in_forget(struct kvmpp_page_in *page_in)
{
	unsigned long flags;

	if (!page_in)
		return;
	raw_spin_lock_irqsave(&page_in->lock, flags);
	page_in->done = NULL;
	raw_spin_unlock_irqrestore(&page_in->lock, flags);
	put(page_in);
}

int __init kvmpp_page_in_init(void)
{
	workers = alloc_workqueue("kvmpp", WQ_UNBOUND, MOST_WORKERS);
	return workers ? 0 : -ENOMEM;
}

void kvmpp_page_in_exit(void)
{
	destroy_workqueue(workers);
}
