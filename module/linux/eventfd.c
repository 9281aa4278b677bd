// SPDX-License-Identifier: GPL-2.0-only
/* Eventfds: signalling one, and being told when one is signalled. */
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "host/seam.h"
#include "linux/objects.h"

void *kvmpp_eventfd_get(int fd, int *error)
{
	struct eventfd_ctx *eventfd = eventfd_ctx_fdget(fd);

	*error = PTR_ERR_OR_ZERO(eventfd);
	return IS_ERR(eventfd) ? NULL : eventfd;
}

void kvmpp_eventfd_put(void *eventfd)
{
	eventfd_ctx_put(eventfd);
}

const __s32 kvmpp_eventfd_signals_atomically = !IS_ENABLED(CONFIG_PREEMPT_RT);

void kvmpp_eventfd_signal(void *eventfd)
{
	eventfd_signal(eventfd, 1);
}

static struct eventfd_watch_object *object_of(struct kvmpp_eventfd_watch *storage)
{
	return (struct eventfd_watch_object *)storage->bytes;
}

/* Runs under the eventfd's wait queue lock with interrupts off. */
static int woken(wait_queue_entry_t *entry, unsigned int mode, int sync, void *key)
{
	struct eventfd_watch_object *object =
		container_of(entry, struct eventfd_watch_object, entry);
	__poll_t flags = key_to_poll(key);

	if (flags & EPOLLIN) {
		__u64 count;

		eventfd_ctx_do_read(object->eventfd, &count);
		object->calls->signalled(object->context);
	}
	if (flags & EPOLLHUP)
		schedule_work(&object->hang_up);
	return 0;
}

static void hang_up(struct work_struct *work)
{
	struct eventfd_watch_object *object =
		container_of(work, struct eventfd_watch_object, hang_up);

	object->calls->hung_up(object->context);
}

static void queue_up(struct file *file, wait_queue_head_t *queue, poll_table *table)
{
	struct eventfd_watch_object *object =
		container_of(table, struct eventfd_watch_object, table);

	object->queue = queue;
	add_wait_queue_priority(queue, &object->entry);
}

int kvmpp_eventfd_watch_start(struct kvmpp_eventfd_watch *watch, int fd,
			      const struct kvmpp_eventfd_calls *calls, void *context)
{
	struct eventfd_watch_object *object = object_of(watch);
	struct fd file = fdget(fd);

	if (!file.file)
		return -EBADF;
	object->eventfd = eventfd_ctx_fileget(file.file);
	if (IS_ERR(object->eventfd)) {
		fdput(file);
		return PTR_ERR(object->eventfd);
	}
	object->calls = calls;
	object->context = context;
	INIT_WORK(&object->hang_up, hang_up);
	init_waitqueue_func_entry(&object->entry, woken);
	init_poll_funcptr(&object->table, queue_up);
	if (vfs_poll(file.file, &object->table) & EPOLLIN)
		calls->signalled(context);
	fdput(file);
	return 0;
}

void kvmpp_eventfd_watch_stop(struct kvmpp_eventfd_watch *watch)
{
	struct eventfd_watch_object *object = object_of(watch);
	__u64 count;

	eventfd_ctx_remove_wait_queue(object->eventfd, &object->entry, &count);
	cancel_work_sync(&object->hang_up);
	eventfd_ctx_put(object->eventfd);
}

void kvmpp_eventfd_watch_end(struct kvmpp_eventfd_watch *watch)
{
	struct eventfd_watch_object *object = object_of(watch);
	__u64 count;

	eventfd_ctx_remove_wait_queue(object->eventfd, &object->entry, &count);
	eventfd_ctx_put(object->eventfd);
}
