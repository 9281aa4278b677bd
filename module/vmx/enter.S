/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/unwind_hints.h>
#include "vmx/world.h"

/* Order of x86::Gpr; RSP, number 4, is in the VMCS. */
#define RAX KVMPP_WORLD_GPR(0)
#define RCX KVMPP_WORLD_GPR(1)
#define RDX KVMPP_WORLD_GPR(2)
#define RBX KVMPP_WORLD_GPR(3)
#define RBP KVMPP_WORLD_GPR(5)
#define RSI KVMPP_WORLD_GPR(6)
#define RDI KVMPP_WORLD_GPR(7)
#define R8 KVMPP_WORLD_GPR(8)
#define R9 KVMPP_WORLD_GPR(9)
#define R10 KVMPP_WORLD_GPR(10)
#define R11 KVMPP_WORLD_GPR(11)
#define R12 KVMPP_WORLD_GPR(12)
#define R13 KVMPP_WORLD_GPR(13)
#define R14 KVMPP_WORLD_GPR(14)
#define R15 KVMPP_WORLD_GPR(15)

.section .noinstr.text, "ax"

/*
 * int kvmpp_world_switch(struct World *world [rdi])
 */
SYM_FUNC_START(kvmpp_world_switch)
	push %rbp
	mov %rsp, %rbp
	push %r15
	push %r14
	push %r13
	push %r12
	push %rbx
	push %rdi

	/* The stack as the exit will find it; the same depth nearly always. */
	cmp %rsp, KVMPP_WORLD_HOST_RSP(%rdi)
	je .Lhost_rsp_set
	mov $KVMPP_FIELD_HOST_RSP, %eax
.Lvmwrite:
	vmwrite %rsp, %rax
	jna .Lfailed
	mov %rsp, KVMPP_WORLD_HOST_RSP(%rdi)
.Lhost_rsp_set:

	/*
	 * The guest's SPEC_CTRL. From here to the entry no return and no indirect branch may run: it
	 * would be predicted under the guest's setting.
	 */
	ALTERNATIVE "jmp .Lspec_ctrl_set", "", X86_FEATURE_MSR_SPEC_CTRL
	movl KVMPP_WORLD_SPEC_CTRL(%rdi), %eax
	movl PER_CPU_VAR(x86_spec_ctrl_current), %edx
	cmp %eax, %edx
	je .Lspec_ctrl_set
	mov $MSR_IA32_SPEC_CTRL, %ecx
	xor %edx, %edx
	wrmsr
.Lspec_ctrl_set:

	/* ZF: not launched. The moves below keep the flags. */
	cmpb $0, KVMPP_WORLD_LAUNCHED(%rdi)
	mov RAX(%rdi), %rax
	mov RCX(%rdi), %rcx
	mov RDX(%rdi), %rdx
	mov RBX(%rdi), %rbx
	mov RBP(%rdi), %rbp
	mov RSI(%rdi), %rsi
	mov R8(%rdi), %r8
	mov R9(%rdi), %r9
	mov R10(%rdi), %r10
	mov R11(%rdi), %r11
	mov R12(%rdi), %r12
	mov R13(%rdi), %r13
	mov R14(%rdi), %r14
	mov R15(%rdi), %r15
	mov RDI(%rdi), %rdi

	/*
	 * The branch comes before VERW, which writes ZF; each way has its own. After it nothing but
	 * the entry touches memory.
	 */
	je .Lfirst_entry

	UNWIND_HINT_SAVE
	CLEAR_CPU_BUFFERS
.Lvmresume:
	vmresume
	jmp .Lfailed

.Lfirst_entry:
	CLEAR_CPU_BUFFERS
.Lvmlaunch:
	vmlaunch
	jmp .Lfailed

	_ASM_EXTABLE(.Lvmwrite, .Lfailed)
	_ASM_EXTABLE(.Lvmresume, .Lfailed)
	_ASM_EXTABLE(.Lvmlaunch, .Lfailed)

/* The processor comes here on a VM exit, with RSP as stored above. */
SYM_INNER_LABEL(kvmpp_world_exit, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ENDBR
	push %rdi
	mov 8(%rsp), %rdi
	mov %rax, RAX(%rdi)
	mov %rcx, RCX(%rdi)
	mov %rdx, RDX(%rdi)
	mov %rbx, RBX(%rdi)
	mov %rbp, RBP(%rdi)
	mov %rsi, RSI(%rdi)
	mov %r8, R8(%rdi)
	mov %r9, R9(%rdi)
	mov %r10, R10(%rdi)
	mov %r11, R11(%rdi)
	mov %r12, R12(%rdi)
	mov %r13, R13(%rdi)
	mov %r14, R14(%rdi)
	mov %r15, R15(%rdi)
	pop RDI(%rdi)
	xor %ebx, %ebx

.Lback_in_host:
	/*
	 * No register may carry a guest's value into speculation; RDI is ours, RBX the result.
	 * RBP comes from the stack below.
	 */
	xor %eax, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	xor %ebp, %ebp
	xor %esi, %esi
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d

	/*
	 * Before the first unbalanced return: the guest may have filled or drained the return stack,
	 * and IBRS must be what the host runs with.
	 */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE

	ALTERNATIVE "jmp .Lspec_ctrl_restored", "", X86_FEATURE_MSR_SPEC_CTRL
	mov $MSR_IA32_SPEC_CTRL, %ecx
	cmpb $0, KVMPP_WORLD_SAVE_SPEC_CTRL(%rdi)
	je .Lspec_ctrl_known
	rdmsr
	movl %eax, KVMPP_WORLD_SPEC_CTRL(%rdi)
.Lspec_ctrl_known:
	movl PER_CPU_VAR(x86_spec_ctrl_current), %eax
	/* Legacy IBRS is a barrier in itself, so it is written even if it is set. */
	ALTERNATIVE "", "jmp .Lspec_ctrl_write", X86_FEATURE_KERNEL_IBRS
	cmp %eax, KVMPP_WORLD_SPEC_CTRL(%rdi)
	je .Lspec_ctrl_fence
.Lspec_ctrl_write:
	xor %edx, %edx
	wrmsr
.Lspec_ctrl_fence:
	/* The branches above must not be speculated past with the guest's setting. */
	lfence
.Lspec_ctrl_restored:

	CLEAR_BRANCH_HISTORY_VMEXIT

	mov %ebx, %eax
	pop %rdi
	pop %rbx
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	pop %rbp
	RET

.Lfailed:
	/* RDI may be the guest's by now. */
	mov (%rsp), %rdi
	mov $1, %ebx
	jmp .Lback_in_host
SYM_FUNC_END(kvmpp_world_switch)
