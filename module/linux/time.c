// SPDX-License-Identifier: GPL-2.0-only
/* Clocks and timers. */
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/timekeeping.h>
#include <asm/cpufeature.h>
#include <asm/tsc.h>
#include "host/seam.h"
#include "linux/objects.h"
#include "linux/parts.h"

static __u64 tsc_adjustment;

__u64 kvmpp_tsc(void)
{
	return rdtsc_ordered() + READ_ONCE(tsc_adjustment);
}

__u64 kvmpp_tsc_adjustment(void)
{
	return READ_ONCE(tsc_adjustment);
}

void kvmpp_tsc_continue_from(__u64 tsc)
{
	__u64 now = kvmpp_tsc();

	if (now < tsc)
		WRITE_ONCE(tsc_adjustment, tsc_adjustment + (tsc - now));
}

__u32 kvmpp_tsc_khz(void)
{
	return tsc_khz;
}

int kvmpp_tsc_reliable(void)
{
	return boot_cpu_has(X86_FEATURE_CONSTANT_TSC) && !check_tsc_unstable();
}

__u64 kvmpp_monotonic_ns(void)
{
	return ktime_get_ns();
}

__u64 kvmpp_boottime_ns(void)
{
	return ktime_get_boottime_ns();
}

__u64 kvmpp_realtime_ns(void)
{
	return ktime_get_real_ns();
}

static struct timer_object *object_of(struct kvmpp_timer *storage)
{
	return (struct timer_object *)storage->bytes;
}

static enum hrtimer_restart expired(struct hrtimer *timer)
{
	struct timer_object *object = container_of(timer, struct timer_object, timer);
	__u64 next = object->callback(object->context, ktime_get_ns());

	if (!next)
		return HRTIMER_NORESTART;
	hrtimer_set_expires(timer, ns_to_ktime(next));
	return HRTIMER_RESTART;
}

void kvmpp_timer_init(struct kvmpp_timer *timer, kvmpp_timer_callback callback, void *context)
{
	struct timer_object *object = object_of(timer);

	/* HARD: expiry in hard interrupt context on PREEMPT_RT too, as the seam promises. */
	hrtimer_init(&object->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	object->timer.function = expired;
	object->callback = callback;
	object->context = context;
}

void kvmpp_timer_start(struct kvmpp_timer *timer, __u64 expiry)
{
	hrtimer_start(&object_of(timer)->timer, ns_to_ktime(expiry), HRTIMER_MODE_ABS_HARD);
}

void kvmpp_timer_cancel(struct kvmpp_timer *timer)
{
	hrtimer_cancel(&object_of(timer)->timer);
}
