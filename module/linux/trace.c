// SPDX-License-Identifier: GPL-2.0-only
#include <asm/vmx.h>

#define CREATE_TRACE_POINTS
#include "linux/tracepoints.h"

#include <linux/atomic.h>
#include "host/seam.h"

__s32 kvmpp_tracing;

int kvmpp_trace_begin(void)
{
	atomic_inc((atomic_t *)&kvmpp_tracing);
	return 0;
}

void kvmpp_trace_end(void)
{
	atomic_dec((atomic_t *)&kvmpp_tracing);
}

void kvmpp_note_entry(__u32 vcpu, __u64 rip)
{
	trace_kvmpp_entry(vcpu, rip);
}

void kvmpp_note_exit(__u32 vcpu, __u32 reason, __u64 rip, __u64 qualification)
{
	trace_kvmpp_exit(vcpu, reason, rip, qualification);
}

void kvmpp_note_injection(__u32 vcpu, __u8 vector, __u8 type)
{
	trace_kvmpp_inj_virq(vcpu, vector, type);
}

void kvmpp_note_page_fault(__u32 vcpu, __u64 rip, __u64 address, __u64 qualification)
{
	trace_kvmpp_page_fault(vcpu, rip, address, qualification);
}

void kvmpp_note_port(__u32 vcpu, int write, __u16 port, __u8 size, __u32 count, __u32 value)
{
	trace_kvmpp_pio(vcpu, write, port, size, count, value);
}

void kvmpp_note_mmio(__u32 vcpu, int write, __u64 address, __u8 size, __u64 value)
{
	trace_kvmpp_mmio(vcpu, write, address, size, value);
}

void kvmpp_note_msr(__u32 vcpu, int write, __u32 index, __u64 value, int fault)
{
	trace_kvmpp_msr(vcpu, write, index, value, fault);
}

void kvmpp_note_cpuid(__u32 vcpu, __u32 leaf, __u32 subleaf, const __u32 registers[4])
{
	trace_kvmpp_cpuid(vcpu, leaf, subleaf, registers);
}
