// SPDX-License-Identifier: GPL-2.0-only
/* Guests' floating-point and extended state, kept by the kernel's own FPU code. */
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/fpu/xstate.h>
#include "host/seam.h"
#include "linux/objects.h"

static struct fpu_guest *guest_of(struct kvmpp_fpu *fpu)
{
	return &((struct fpu_object *)fpu->bytes)->guest;
}

int kvmpp_fpu_init(struct kvmpp_fpu *fpu)
{
	return fpu_alloc_guest_fpstate(guest_of(fpu)) ? 0 : -ENOMEM;
}

void kvmpp_fpu_destroy(struct kvmpp_fpu *fpu)
{
	fpu_free_guest_fpstate(guest_of(fpu));
}

void kvmpp_fpu_enter(struct kvmpp_fpu *fpu)
{
	fpu_swap_kvm_fpstate(guest_of(fpu), true);
}

void kvmpp_fpu_leave(struct kvmpp_fpu *fpu)
{
	fpu_swap_kvm_fpstate(guest_of(fpu), false);
}

void kvmpp_fpu_get(struct kvmpp_fpu *fpu, void *xsave, size_t size)
{
	/* PKRU, the last argument, is not offered to guests. */
	fpu_copy_guest_fpstate_to_uabi(guest_of(fpu), xsave, size, 
				       kvmpp_fpu_xcr0_supported() | XFEATURE_MASK_FPSSE, 0);
}

int kvmpp_fpu_set(struct kvmpp_fpu *fpu, const void *xsave, size_t size, __u64 xcr0)
{
	u32 pkru;

	return fpu_copy_uabi_to_guest_fpstate(guest_of(fpu), xsave, xcr0, &pkru);
}

__u64 kvmpp_fpu_xcr0_supported(void)
{
	const __u64 known = XFEATURE_MASK_FP | XFEATURE_MASK_SSE | XFEATURE_MASK_YMM |
			    XFEATURE_MASK_AVX512;

	return kvmpp_fpu_xcr0() & known;
}

__u64 kvmpp_fpu_xcr0(void)
{
	return boot_cpu_has(X86_FEATURE_XSAVE) ? xgetbv(XCR_XFEATURE_ENABLED_MASK) : 0;
}

void kvmpp_xcr0_write(__u64 value)
{
	xsetbv(XCR_XFEATURE_ENABLED_MASK, value);
}
