/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guest of `kvmpp bench` runs, in 32-bit protected mode without paging: one routine for
 * each operation. ESI says how often, EDI is the number it is done to; how long it took comes back
 * in EBP, whose 32 bits are enough for a batch. The code is copied into guest memory, so that it
 * must not care where it lies.
 */
#include "addresses.h"

/* Around the instructions that are measured; they may use EAX to EDX. */
.macro operation name
	.globl	kvmpp_bench_\name
kvmpp_bench_\name:
	lfence
	rdtsc
	mov	%eax, %ebp
1:
.endm

.macro end_operation
	dec	%esi
	jnz	1b
	lfence
	rdtsc
	sub	%ebp, %eax
	mov	%eax, %ebp
	out	%al, $BENCH_DONE_PORT
.endm

	.section .rodata
	.code32
	.globl	kvmpp_bench_guest, kvmpp_bench_guest_end
kvmpp_bench_guest:

operation cpuid
	xor	%eax, %eax
	cpuid
end_operation

operation vmcall
	mov	%edi, %eax
	vmcall
end_operation

operation rdmsr
	mov	%edi, %ecx
	rdmsr
end_operation

operation wrmsr
	mov	%edi, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
end_operation

operation port_write
	mov	%edi, %edx
	out	%eax, %dx
end_operation

operation port_read
	mov	%edi, %edx
	in	%dx, %eax
end_operation

operation mmio_write
	mov	%eax, BENCH_NO_MEMORY
end_operation

operation mmio_read
	mov	BENCH_NO_MEMORY, %eax
end_operation

operation apic_read
	mov	BENCH_APIC_VERSION, %eax
end_operation

operation apic_eoi
	mov	%eax, BENCH_APIC_EOI
end_operation

/* One write to each page. */
operation touch
	movb	$1, (%edi)
	add	$4096, %edi
end_operation

	.globl	kvmpp_bench_halt
kvmpp_bench_halt:
	hlt
kvmpp_bench_guest_end:

	.section .note.GNU-stack, "", @progbits
