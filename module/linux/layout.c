// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sizes and alignments of the kernel objects that the core holds by value. Kbuild compiles this
 * file to assembly and turns each line into a #define in generated/host_layout.h, so that
 * host/seam.h can reserve the right number of bytes without seeing a kernel header.
 */
#include <linux/kbuild.h>
#include <asm/extable_fixup_types.h>
#include "linux/objects.h"

#define OBJECT(NAME, type)                                                                         \
	DEFINE(KVMPP_SIZEOF_##NAME, sizeof(type));                                                 \
	DEFINE(KVMPP_ALIGNOF_##NAME, __alignof__(type))

int main(void)
{
	OBJECT(MUTEX, struct mutex);
	OBJECT(SPINLOCK, raw_spinlock_t);
	OBJECT(RWLOCK, rwlock_t);
	OBJECT(WAITER, struct rcuwait);
	OBJECT(TIMER, struct timer_object);
	OBJECT(MM_WATCH, struct mm_watch_object);
	OBJECT(SWITCH_WATCH, struct switch_watch_object);
	OBJECT(EVENTFD_WATCH, struct eventfd_watch_object);
	OBJECT(FPU, struct fpu_object);
	/* How the kernel's exception tables mark "continue at the fixup". */
	DEFINE(KVMPP_EX_TYPE_DEFAULT, EX_TYPE_DEFAULT);
	return 0;
}
