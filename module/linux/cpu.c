// SPDX-License-Identifier: GPL-2.0-only
/* Processors: calls across them, their MSRs and control registers. */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/smp.h>
#include <linux/topology.h>
#include <asm/cpuid.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>
#include "host/seam.h"

unsigned int kvmpp_cpu_limit(void)
{
	return nr_cpu_ids;
}

unsigned int kvmpp_cpu_current(void)
{
	return raw_smp_processor_id();
}

int kvmpp_cpu_node(unsigned int cpu)
{
	return cpu_to_node(cpu);
}

void kvmpp_cpu_run_on_all(void (*function)(void *argument), void *argument)
{
	on_each_cpu(function, argument, 1);
}

int kvmpp_cpu_run_on(unsigned int cpu, void (*function)(void *argument), void *argument)
{
	return smp_call_function_single(cpu, function, argument, 1);
}

void kvmpp_cpu_kick(unsigned int cpu)
{
	if (cpu_online(cpu))
		smp_send_reschedule(cpu);
}

static void leave_guest(void *nothing)
{
}

void kvmpp_cpu_kick_and_wait(const unsigned long *cpus)
{
	BUILD_BUG_ON(NR_CPUS > KVMPP_MAX_CPUS);
	on_each_cpu_mask(to_cpumask(cpus), leave_guest, NULL, 1);
}

int kvmpp_mwait_usable(void)
{
	return boot_cpu_has(X86_FEATURE_MWAIT) && boot_cpu_has(X86_FEATURE_ARAT) &&
	       !boot_cpu_has_bug(X86_BUG_MONITOR);
}

void kvmpp_cpu_hotplug_lock(void)
{
	cpus_read_lock();
}

void kvmpp_cpu_hotplug_unlock(void)
{
	cpus_read_unlock();
}

unsigned long kvmpp_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void kvmpp_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

void kvmpp_irq_disable(void)
{
	local_irq_disable();
}

void kvmpp_irq_enable(void)
{
	local_irq_enable();
}

void kvmpp_preempt_disable(void)
{
	preempt_disable();
}

void kvmpp_preempt_enable(void)
{
	preempt_enable();
}

int kvmpp_msr_read(__u32 index, __u64 *value)
{
	return rdmsrl_safe(index, value);
}

int kvmpp_msr_write(__u32 index, __u64 value)
{
	return wrmsrl_safe(index, value);
}

void kvmpp_cpuid(__u32 leaf, __u32 subleaf, __u32 registers[4])
{
	cpuid_count(leaf, subleaf, &registers[0], &registers[1], &registers[2], &registers[3]);
}

__u64 kvmpp_cr4_read(void)
{
	return cr4_read_shadow();
}

void kvmpp_cr4_set_vmxe(int on)
{
	if (on)
		cr4_set_bits(X86_CR4_VMXE);
	else
		cr4_clear_bits(X86_CR4_VMXE);
}
