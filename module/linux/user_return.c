// SPDX-License-Identifier: GPL-2.0-only
/*
 * MSRs that only user mode needs back. A guest's values stay loaded across exits that the kernel
 * handles, and across other threads that stay in the kernel; the CPU's next return to user mode
 * restores the host's.
 */
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/user-return-notifier.h>
#include <asm/msr.h>
#include "host/seam.h"
#include "linux/parts.h"

#define MAX_SLOTS 8

struct cpu_values {
	struct user_return_notifier notifier;
	bool armed;
	bool known; /* host values were read */
	struct {
		u64 host, loaded;
	} slots[MAX_SLOTS];
};

static DEFINE_MUTEX(registration);
static struct cpu_values __percpu *values;
static u32 msrs[MAX_SLOTS];
static unsigned int msr_count;

int __init kvmpp_user_return_init(void)
{
	values = alloc_percpu(struct cpu_values);
	return values ? 0 : -ENOMEM;
}

void kvmpp_user_return_exit(void)
{
	int cpu;

	/* Taking VT-x from a CPU restores its MSRs, and without a VM no CPU has VT-x. */
	for_each_possible_cpu(cpu)
		WARN_ON(per_cpu_ptr(values, cpu)->armed);
	free_percpu(values);
}

int kvmpp_user_return_msr_register(__u32 index)
{
	u64 value;
	int slot;

	/* Some processors lack some of them, and answer with #GP. */
	if (rdmsrl_safe(index, &value) || wrmsrl_safe(index, value))
		return -ENXIO;
	mutex_lock(&registration);
	slot = msr_count < MAX_SLOTS ? msr_count : -ENXIO;
	if (slot >= 0)
		msrs[msr_count++] = index;
	mutex_unlock(&registration);
	return slot;
}

static void restore(struct cpu_values *cpu)
{
	unsigned long flags;
	unsigned int slot;

	/* An interrupt that takes VT-x away from this CPU restores them as well. */
	local_irq_save(flags);
	if (cpu->armed) {
		cpu->armed = false;
		user_return_notifier_unregister(&cpu->notifier);
		for (slot = 0; slot < msr_count; slot++) {
			if (cpu->slots[slot].loaded == cpu->slots[slot].host)
				continue;
			wrmsrl(msrs[slot], cpu->slots[slot].host);
			cpu->slots[slot].loaded = cpu->slots[slot].host;
		}
	}
	local_irq_restore(flags);
}

static void on_user_return(struct user_return_notifier *notifier)
{
	restore(container_of(notifier, struct cpu_values, notifier));
}

static void learn_host_values(struct cpu_values *cpu)
{
	unsigned int slot;

	for (slot = 0; slot < msr_count; slot++) {
		rdmsrl(msrs[slot], cpu->slots[slot].host);
		cpu->slots[slot].loaded = cpu->slots[slot].host;
	}
	cpu->notifier.on_user_return = on_user_return;
	cpu->known = true;
}

void kvmpp_user_return_msr_set(unsigned int slot, __u64 value, __u64 mask)
{
	struct cpu_values *cpu = this_cpu_ptr(values);

	if (!cpu->known)
		learn_host_values(cpu);
	value = (value & mask) | (cpu->slots[slot].host & ~mask);
	if (value == cpu->slots[slot].loaded)
		return;
	wrmsrl(msrs[slot], value);
	cpu->slots[slot].loaded = value;
	if (!cpu->armed) {
		user_return_notifier_register(&cpu->notifier);
		cpu->armed = true;
	}
}

void kvmpp_user_return_msrs_restore(void)
{
	restore(this_cpu_ptr(values));
}
