/* SPDX-License-Identifier: GPL-2.0-only */
/* Into a state and back, without a register to spare: everything is at fixed addresses below 2 GiB.
 * The layout is that of Exchange in native.cpp. */

#define EXCHANGE	0x30000000
#define GPR(n)		(EXCHANGE + 8 * (n))
#define RIP		(EXCHANGE + 0x80)
#define RFLAGS		(EXCHANGE + 0x88)
#define FS_BASE		(EXCHANGE + 0x90)
#define GS_BASE		(EXCHANGE + 0x98)
#define DS		(EXCHANGE + 0xa0)
#define ES		(EXCHANGE + 0xa2)
#define HOME		(EXCHANGE + 0x100)	/* our stack pointer */
#define HOME_FS		(EXCHANGE + 0x108)
#define HOME_GS		(EXCHANGE + 0x110)
#define EXTENDED	(EXCHANGE + 0x118)
#define SEGMENTS	(EXCHANGE + 0x120)
#define BASES		(EXCHANGE + 0x128)
#define QUIET_MXCSR	(EXCHANGE + 0x130)
#define IMAGE		(EXCHANGE + 0x400)
#define QUIET_FLAGS	0x202

	.text
	.globl native_enter, native_leave, native_home, native_handler

native_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, HOME
	cmpq	$0, EXTENDED
	je	1f
	mov	$7, %eax
	xor	%edx, %edx
	xrstor64 IMAGE
1:	pushq	RFLAGS
	popfq
	mov	GPR(0), %rax
	mov	GPR(1), %rcx
	mov	GPR(2), %rdx
	mov	GPR(3), %rbx
	mov	GPR(4), %rsp
	mov	GPR(5), %rbp
	mov	GPR(6), %rsi
	mov	GPR(7), %rdi
	mov	GPR(8), %r8
	mov	GPR(9), %r9
	mov	GPR(10), %r10
	mov	GPR(11), %r11
	mov	GPR(12), %r12
	mov	GPR(13), %r13
	mov	GPR(14), %r14
	mov	GPR(15), %r15
	jmp	*RIP

	/* The state's instruction is complete and the next one follows it. */
native_leave:
	mov	%rax, GPR(0)
	mov	%rcx, GPR(1)
	mov	%rdx, GPR(2)
	mov	%rbx, GPR(3)
	mov	%rsp, GPR(4)
	mov	%rbp, GPR(5)
	mov	%rsi, GPR(6)
	mov	%rdi, GPR(7)
	mov	%r8, GPR(8)
	mov	%r9, GPR(9)
	mov	%r10, GPR(10)
	mov	%r11, GPR(11)
	mov	%r12, GPR(12)
	mov	%r13, GPR(13)
	mov	%r14, GPR(14)
	mov	%r15, GPR(15)
	mov	HOME, %rsp
	pushfq
	popq	RFLAGS
	cmpq	$0, EXTENDED
	je	native_home
	mov	$7, %eax
	xor	%edx, %edx
	xsave64	IMAGE

	/* Whichever way the state has ended. */
native_home:
	pushq	$QUIET_FLAGS
	popfq
	cmpq	$0, SEGMENTS
	je	1f
	mov	%ds, DS
	mov	%es, ES
	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
1:	cmpq	$0, BASES
	je	1f
	rdfsbase %rax
	mov	%rax, FS_BASE
	rdgsbase %rax
	mov	%rax, GS_BASE
	mov	HOME_FS, %rax
	wrfsbase %rax
	mov	HOME_GS, %rax
	wrgsbase %rax
1:	cmpq	$0, EXTENDED
	je	1f
	fninit
	ldmxcsr	QUIET_MXCSR
1:	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	/* A signal's handler keeps the program's RFLAGS.AC, with which ours would fault again. */
native_handler:
	pushq	$QUIET_FLAGS
	popfq
	jmp	native_signal

	.section .note.GNU-stack, "", @progbits
