// SPDX-License-Identifier: GPL-2.0-only
// What the host does around a guest's stretch on a CPU.
#include "sim/cpu/cpus.h"
#include "sim/host.h"
#include "x86/msr.h"

using namespace kvmpp;
namespace msr = kvmpp::x86::msr;

__s32 kvmpp_tracing = 0;

void kvmpp_host_tables_get(kvmpp_host_tables *tables)
{
	const sim::Cpu &cpu = sim::this_cpu();
	const u64 offset = cpu.number * u64{0x40000};
	*tables = {.gdt_base = 0xfffffe0000001000 + offset,
		.idt_base = 0xfffffe0000000000,
		.tss_base = 0xfffffe0000003000 + offset,
		.gs_base = cpu.msrs.at(msr::gs_base),
		.sysenter_esp = cpu.msrs.at(msr::sysenter_esp),
		.sysenter_eip = cpu.msrs.at(msr::sysenter_eip),
		.efer = cpu.msrs.at(msr::efer),
		.pat = cpu.msrs.at(msr::pat),
		.sysenter_cs = static_cast<u32>(cpu.msrs.at(msr::sysenter_cs)),
		.cs = 0x10,
		.ss = 0x18,
		.tss_selector = 0x40};
}

__u64 kvmpp_debugctl(void)
{
	return sim::this_cpu().msrs.at(msr::debugctl);
}

void kvmpp_user_segments_save(kvmpp_user_segments *segments)
{
	const sim::Cpu &cpu = sim::this_cpu();
	*segments = {.fs_base = cpu.msrs.at(msr::fs_base),
		.kernel_gs_base = cpu.msrs.at(msr::kernel_gs_base),
		.ds = 0,
		.es = 0,
		.fs = 0,
		.gs = 0,
		.ldt = 0};
}

void kvmpp_user_segments_restore(const kvmpp_user_segments *segments)
{
	sim::this_cpu().msrs[msr::kernel_gs_base] = segments->kernel_gs_base;
}

void kvmpp_guest_begin(void)
{
	const sim::Thread &thread = sim::this_thread();
	if (!thread.interrupts_off)
		sim::die("enters a guest with interrupts on");
	if (!thread.fpu)
		sim::die("enters a guest with the thread's FPU state");
	sim::this_cpu().in_guest = true;
}

__s32 kvmpp_guest_tracked = 1;

void kvmpp_guest_again(void)
{
	kvmpp_guest_begin();
}

void kvmpp_guest_end(void)
{
	sim::this_cpu().in_guest = false;
}

void kvmpp_guest_leave(void)
{
	++sim::this_cpu().counts.guest_leaves;
	kvmpp_irq_enable();
}

void kvmpp_deliver_nmi(void)
{
	++sim::this_cpu().counts.nmis;
}

void kvmpp_deliver_machine_check(void)
{
	++sim::this_cpu().counts.machine_checks;
}

int kvmpp_debug_registers_active(void)
{
	return sim::this_cpu().host_breakpoints;
}

void kvmpp_debug_registers_restore(void)
{
	sim::this_cpu().debug = {};
}

void kvmpp_debug_registers_write(const __u64 address[4], __u64 dr6)
{
	auto &debug = sim::this_cpu().debug;
	for (unsigned i = 0; i < 4; ++i)
		debug.address[i] = address[i];
	debug.dr6 = dr6;
}

__u64 kvmpp_dr6_read(void)
{
	return sim::this_cpu().debug.dr6;
}

void kvmpp_note_entry(__u32, __u64)
{
}

void kvmpp_note_exit(__u32, __u32, __u64, __u64)
{
}

void kvmpp_note_injection(__u32, __u8, __u8)
{
}

void kvmpp_note_page_fault(__u32, __u64, __u64, __u64)
{
}

void kvmpp_note_port(__u32, int, __u16, __u8, __u32, __u32)
{
}

void kvmpp_note_mmio(__u32, int, __u64, __u8, __u64)
{
}

void kvmpp_note_msr(__u32, int, __u32, __u64, int)
{
}

void kvmpp_note_cpuid(__u32, __u32, __u32, const __u32[4])
{
}
