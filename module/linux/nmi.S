/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/segment.h>

.section .noinstr.text, "ax"

/*
 * void kvmpp_deliver_nmi(void)
 *
 * An NMI that ended a guest's run was taken by the processor but by nobody else. This builds the
 * frame that the processor would have pushed, on this stack, and enters the kernel's handler, whose
 * IRET also unblocks further NMIs.
 */
SYM_FUNC_START(kvmpp_deliver_nmi)
	push %rbp
	mov %rsp, %rbp
	/* The processor aligns the stack before it pushes (SDM vol. 3, 6.14.2). */
	and $-16, %rsp
	push $__KERNEL_DS
	push %rbp
	pushf
	push $__KERNEL_CS
	/* The call pushes the return address as the frame's RIP. */
	call asm_exc_nmi_noist
	/* IRET has brought RSP back already; objtool wants to see it. */
	mov %rbp, %rsp
	pop %rbp
	RET
SYM_FUNC_END(kvmpp_deliver_nmi)
