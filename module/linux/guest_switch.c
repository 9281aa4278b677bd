// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel needs done around the stretch in which a CPU belongs to a guest. */
#include <linux/context_tracking.h>
#include <linux/ftrace.h>
#include <linux/hardirq.h>
#include <linux/instrumentation.h>
#include <linux/irqflags.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/tick.h>
#include <linux/vtime.h>
#include <asm/cpu_entry_area.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>
#include <asm/fsgsbase.h>
#include <asm/mce.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/segment.h>

#include "host/seam.h"
#include "linux/parts.h"

void kvmpp_host_tables_get(struct kvmpp_host_tables *tables)
{
	const int cpu = smp_processor_id();
	struct desc_ptr idt;

	store_idt(&idt);
	tables->idt_base = idt.address;
	tables->gdt_base = (__u64)get_current_gdt_ro();
	tables->tss_base = (__u64)&get_cpu_entry_area(cpu)->tss.x86_tss;
	tables->gs_base = cpu_kernelmode_gs_base(cpu);
	rdmsrl(MSR_IA32_SYSENTER_ESP, tables->sysenter_esp);
	rdmsrl(MSR_IA32_SYSENTER_EIP, tables->sysenter_eip);
	tables->sysenter_cs = __KERNEL_CS;
	rdmsrl(MSR_EFER, tables->efer);
	rdmsrl(MSR_IA32_CR_PAT, tables->pat);
	tables->cs = __KERNEL_CS;
	tables->ss = __KERNEL_DS;
	tables->tss_selector = GDT_ENTRY_TSS * 8;
}

__u64 kvmpp_debugctl(void)
{
	return get_debugctlmsr();
}

void kvmpp_user_segments_save(struct kvmpp_user_segments *segments)
{
	savesegment(ds, segments->ds);
	savesegment(es, segments->es);
	asm("sldt %0" : "=m"(segments->ldt));
	current_save_fsgs();
	segments->fs = current->thread.fsindex;
	segments->gs = current->thread.gsindex;
	segments->fs_base = current->thread.fsbase;
	segments->kernel_gs_base = current->thread.gsbase;
}

void kvmpp_user_segments_restore(const struct kvmpp_user_segments *segments)
{
	if (segments->ldt)
		asm volatile("lldt %0" : : "rm"(segments->ldt));
	if (segments->gs > 3)
		load_gs_index(segments->gs);
	if (segments->fs > 3)
		loadsegment(fs, segments->fs);
	if (segments->ds | segments->es) {
		loadsegment(ds, segments->ds);
		loadsegment(es, segments->es);
	}
	wrmsrl(MSR_KERNEL_GS_BASE, segments->kernel_gs_base);
	/* A VM exit leaves a GDT limit of 64 KiB; the kernel's is shorter. */
	load_fixmap_gdt(raw_smp_processor_id());
}

noinstr void kvmpp_guest_begin(void)
{
	instrumentation_begin();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	tick_nohz_user_enter_prepare();
	vtime_account_guest_enter();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();

	/* From here to the end of the guest's stretch RCU may look away. */
	if (!context_tracking_guest_enter()) {
		instrumentation_begin();
		rcu_virt_note_context_switch(raw_smp_processor_id());
		instrumentation_end();
	}
	lockdep_hardirqs_on(CALLER_ADDR0);
}

__s32 kvmpp_guest_tracked __ro_after_init;

/* On kernels with none of these the two functions below do nothing. */
void __init kvmpp_guest_switch_init(void)
{
	kvmpp_guest_tracked = IS_ENABLED(CONFIG_TRACE_IRQFLAGS) || context_tracking_enabled();
}

noinstr void kvmpp_guest_again(void)
{
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();
	context_tracking_guest_enter();
	lockdep_hardirqs_on(CALLER_ADDR0);
}

noinstr void kvmpp_guest_end(void)
{
	lockdep_hardirqs_off(CALLER_ADDR0);
	context_tracking_guest_exit();

	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}

void kvmpp_guest_leave(void)
{
	/* A tick that ended the guest's stretch belongs to the guest's time. */
	local_irq_enable();
	asm volatile("nop"); /* STI blocks interrupts for one instruction more */
	local_irq_disable();
	vtime_account_guest_exit();
	local_irq_enable();
}

void kvmpp_deliver_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	struct pt_regs registers = {
		.cs = 3, /* the interrupted context was none of the kernel's */
		.flags = X86_EFLAGS_IF,
	};

	do_machine_check(&registers);
#endif
}

int kvmpp_debug_registers_active(void)
{
	return hw_breakpoint_active();
}

void kvmpp_debug_registers_restore(void)
{
	hw_breakpoint_restore();
}

void kvmpp_debug_registers_write(const __u64 address[4], __u64 dr6)
{
	set_debugreg(address[0], 0);
	set_debugreg(address[1], 1);
	set_debugreg(address[2], 2);
	set_debugreg(address[3], 3);
	set_debugreg(dr6, 6);
}

__u64 kvmpp_dr6_read(void)
{
	unsigned long dr6;

	get_debugreg(dr6, 6);
	return dr6;
}
