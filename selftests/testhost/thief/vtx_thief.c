// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the test host only: a hypervisor without manners. It takes VT-x away from whoever has it on a CPU,
 * or holds a CPU as it comes up.
 */
#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/asm.h>
#include <asm/tlbflush.h>

static int off_cpu = -1;
module_param(off_cpu, int, 0);
MODULE_PARM_DESC(off_cpu, "VT-x is switched off on this CPU when the module is loaded");

static int held_cpu = -1;
module_param(held_cpu, int, 0);
MODULE_PARM_DESC(held_cpu, "CR4.VMXE is set on this CPU whenever it comes up");

static void take_away(void *nothing)
{
	asm volatile("1: vmxoff\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
	cr4_clear_bits(X86_CR4_VMXE);
}

static int come_up(unsigned int cpu)
{
	if (cpu == held_cpu)
		cr4_set_bits(X86_CR4_VMXE);
	return 0;
}

static int go_down(unsigned int cpu)
{
	if (cpu == held_cpu)
		cr4_clear_bits(X86_CR4_VMXE);
	return 0;
}

/* The place of the kernel's own KVM, which is not loaded meanwhile; before that of any other module. */
#define PLACE CPUHP_AP_KVM_STARTING

static int __init thief_init(void)
{
	if (off_cpu >= 0)
		return smp_call_function_single(off_cpu, take_away, NULL, 1);
	return cpuhp_setup_state_nocalls(PLACE, "vtx_thief:starting", come_up, go_down);
}

static void __exit thief_exit(void)
{
	if (off_cpu < 0)
		cpuhp_remove_state_nocalls(PLACE);
}

module_init(thief_init);
module_exit(thief_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Takes VT-x away, for tests of those that had it");
