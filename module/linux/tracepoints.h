/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints, by the names of KVM's with a prefix of their own: /sys/kernel/tracing/events/kvmpp. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvmpp

#if !defined(KVMPP_LINUX_TRACEPOINTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define KVMPP_LINUX_TRACEPOINTS_H

#include <linux/tracepoint.h>

/* The core looks at one counter before it calls here at all; see trace.c. */
int kvmpp_trace_begin(void);
void kvmpp_trace_end(void);

TRACE_EVENT_FN(kvmpp_entry,
	TP_PROTO(__u32 vcpu, __u64 rip),
	TP_ARGS(vcpu, rip),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(__u64, rip)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->rip = rip;),
	TP_printk("vcpu %u rip 0x%llx", __entry->vcpu, __entry->rip),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_exit,
	TP_PROTO(__u32 vcpu, __u32 reason, __u64 rip, __u64 qualification),
	TP_ARGS(vcpu, reason, rip, qualification),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(__u32, reason) __field(__u64, rip)
		__field(__u64, qualification)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->reason = reason; __entry->rip = rip;
		__entry->qualification = qualification;),
	TP_printk("vcpu %u reason %s rip 0x%llx qualification 0x%llx", __entry->vcpu,
		__print_symbolic(__entry->reason & 0xffff, VMX_EXIT_REASONS), __entry->rip,
		__entry->qualification),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_inj_virq,
	TP_PROTO(__u32 vcpu, __u8 vector, __u8 type),
	TP_ARGS(vcpu, vector, type),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(__u8, vector) __field(__u8, type)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->vector = vector; __entry->type = type;),
	TP_printk("vcpu %u vector 0x%x type %s", __entry->vcpu, __entry->vector,
		__print_symbolic(__entry->type, { 0, "interrupt" }, { 2, "nmi" }, { 3, "exception" },
			{ 4, "int-n" }, { 5, "int1" }, { 6, "int3-into" })),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_page_fault,
	TP_PROTO(__u32 vcpu, __u64 rip, __u64 address, __u64 qualification),
	TP_ARGS(vcpu, rip, address, qualification),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(__u64, rip) __field(__u64, address)
		__field(__u64, qualification)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->rip = rip; __entry->address = address;
		__entry->qualification = qualification;),
	TP_printk("vcpu %u rip 0x%llx address 0x%llx qualification 0x%llx", __entry->vcpu,
		__entry->rip, __entry->address, __entry->qualification),
	kvmpp_trace_begin, kvmpp_trace_end);

#define kvmpp_direction(write) ((write) ? "write" : "read")

TRACE_EVENT_FN(kvmpp_pio,
	TP_PROTO(__u32 vcpu, bool write, __u16 port, __u8 size, __u32 count, __u32 value),
	TP_ARGS(vcpu, write, port, size, count, value),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(bool, write) __field(__u16, port)
		__field(__u8, size) __field(__u32, count) __field(__u32, value)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->write = write; __entry->port = port;
		__entry->size = size; __entry->count = count; __entry->value = value;),
	TP_printk("vcpu %u %s port 0x%x size %u count %u value 0x%x", __entry->vcpu,
		kvmpp_direction(__entry->write), __entry->port, __entry->size, __entry->count,
		__entry->value),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_mmio,
	TP_PROTO(__u32 vcpu, bool write, __u64 address, __u8 size, __u64 value),
	TP_ARGS(vcpu, write, address, size, value),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(bool, write) __field(__u64, address)
		__field(__u8, size) __field(__u64, value)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->write = write; __entry->address = address;
		__entry->size = size; __entry->value = value;),
	TP_printk("vcpu %u %s address 0x%llx size %u value 0x%llx", __entry->vcpu,
		kvmpp_direction(__entry->write), __entry->address, __entry->size, __entry->value),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_msr,
	TP_PROTO(__u32 vcpu, bool write, __u32 index, __u64 value, bool fault),
	TP_ARGS(vcpu, write, index, value, fault),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(bool, write) __field(__u32, index)
		__field(__u64, value) __field(bool, fault)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->write = write; __entry->index = index;
		__entry->value = value; __entry->fault = fault;),
	TP_printk("vcpu %u %s msr 0x%x value 0x%llx%s", __entry->vcpu,
		kvmpp_direction(__entry->write), __entry->index, __entry->value,
		__entry->fault ? " #GP" : ""),
	kvmpp_trace_begin, kvmpp_trace_end);

TRACE_EVENT_FN(kvmpp_cpuid,
	TP_PROTO(__u32 vcpu, __u32 leaf, __u32 subleaf, const __u32 *registers),
	TP_ARGS(vcpu, leaf, subleaf, registers),
	TP_STRUCT__entry(__field(__u32, vcpu) __field(__u32, leaf) __field(__u32, subleaf)
		__array(__u32, registers, 4)),
	TP_fast_assign(__entry->vcpu = vcpu; __entry->leaf = leaf; __entry->subleaf = subleaf;
		memcpy(__entry->registers, registers, sizeof(__entry->registers));),
	TP_printk("vcpu %u leaf 0x%x subleaf 0x%x eax 0x%x ebx 0x%x ecx 0x%x edx 0x%x",
		__entry->vcpu, __entry->leaf, __entry->subleaf, __entry->registers[0],
		__entry->registers[1], __entry->registers[2], __entry->registers[3]),
	kvmpp_trace_begin, kvmpp_trace_end);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE tracepoints
#include <trace/define_trace.h>
