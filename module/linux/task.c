// SPDX-License-Identifier: GPL-2.0-only
/* The calling thread: pending work, blocking and waking, and being scheduled. */
#include <linux/delay.h>
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/pid.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include "host/seam.h"
#include "linux/objects.h"

int kvmpp_signal_pending(void)
{
	return signal_pending(current);
}

int kvmpp_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}

/*
 * The kernel's handler of that work is made for its own KVM: when it meets a signal it notes so in
 * a struct kvm_vcpu and returns -EINTR. Nobody reads this one.
 */
static struct kvm_run signal_note_run;
static struct kvm_vcpu signal_note = { .run = &signal_note_run };

int kvmpp_work_handle(void)
{
	return xfer_to_guest_mode_handle_work(&signal_note);
}

void kvmpp_cond_resched(void)
{
	cond_resched();
}

int kvmpp_alone_on_cpu(void)
{
	return single_task_running();
}

void kvmpp_cpu_relax(void)
{
	cpu_relax();
}

void kvmpp_pause(void)
{
	usleep_range(20, 50);
}

__s32 kvmpp_process_id(void)
{
	return task_tgid_nr(current);
}

__u64 kvmpp_run_delay_ns(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

struct kvmpp_thread *kvmpp_thread_current(void)
{
	return (struct kvmpp_thread *)get_task_pid(current, PIDTYPE_PID);
}

struct kvmpp_thread *kvmpp_thread_get(struct kvmpp_thread *thread)
{
	return (struct kvmpp_thread *)get_pid((struct pid *)thread);
}

void kvmpp_thread_put(struct kvmpp_thread *thread)
{
	put_pid((struct pid *)thread);
}

int kvmpp_thread_is_current(const struct kvmpp_thread *thread)
{
	return (const struct pid *)thread == task_pid(current);
}

int kvmpp_thread_yield_to(struct kvmpp_thread *thread)
{
	struct task_struct *task = get_pid_task((struct pid *)thread, PIDTYPE_PID);
	int yielded;

	if (!task)
		return 0;
	yielded = yield_to(task, true);
	put_task_struct(task);
	return yielded > 0;
}

void kvmpp_signal_mask_set(__u64 mask)
{
	sigset_t set = { .sig = { mask } };

	BUILD_BUG_ON(sizeof(set) != sizeof(mask));
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	/* real_blocked also tells the wake-up of ptrace that the mask is a temporary one. */
	sigprocmask(SIG_SETMASK, &set, &current->real_blocked);
}

void kvmpp_signal_mask_restore(void)
{
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}

static struct rcuwait *waiter_of(struct kvmpp_waiter *storage)
{
	return (struct rcuwait *)storage->bytes;
}

void kvmpp_waiter_init(struct kvmpp_waiter *waiter)
{
	rcuwait_init(waiter_of(waiter));
}

void kvmpp_wait(struct kvmpp_waiter *waiter, int (*ready)(void *context), void *context)
{
	prepare_to_rcuwait(waiter_of(waiter));
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (ready(context) || signal_pending(current))
			break;
		schedule();
	}
	finish_rcuwait(waiter_of(waiter));
}

void kvmpp_wake(struct kvmpp_waiter *waiter)
{
	rcuwait_wake_up(waiter_of(waiter));
}

static void switched_in(struct preempt_notifier *notifier, int cpu)
{
	kvmpp_switched_in(container_of(notifier, struct switch_watch_object, notifier)->owner, cpu);
}

static void switched_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	kvmpp_switched_out(container_of(notifier, struct switch_watch_object, notifier)->owner);
}

static struct preempt_ops switch_operations = {
	.sched_in = switched_in,
	.sched_out = switched_out,
};

void kvmpp_switch_watch_start(struct kvmpp_switch_watch *watch, void *owner)
{
	struct switch_watch_object *object = (struct switch_watch_object *)watch->bytes;

	object->owner = owner;
	preempt_notifier_init(&object->notifier, &switch_operations);
	preempt_notifier_register(&object->notifier);
}

void kvmpp_switch_watch_stop(struct kvmpp_switch_watch *watch)
{
	struct switch_watch_object *object = (struct switch_watch_object *)watch->bytes;

	preempt_notifier_unregister(&object->notifier);
}
