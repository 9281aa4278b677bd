/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is really inside the storage that the core reserves (host/seam.h), for layout.c, which
 * measures it, and for the file that implements each.
 */
#ifndef KVMPP_LINUX_OBJECTS_H
#define KVMPP_LINUX_OBJECTS_H

#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>

struct timer_object {
	struct hrtimer timer;
	__u64 (*callback)(void *context, __u64 now);
	void *context;
};

struct mm_watch_object {
	struct mmu_notifier notifier;
	void *owner;
};

struct switch_watch_object {
	struct preempt_notifier notifier;
	void *owner;
};

struct eventfd_watch_object {
	struct eventfd_ctx *eventfd;
	wait_queue_head_t *queue;
	wait_queue_entry_t entry;
	poll_table table;
	struct work_struct hang_up;
	const struct kvmpp_eventfd_calls *calls;
	void *context;
};

struct fpu_object {
	struct fpu_guest guest;
};

#endif
