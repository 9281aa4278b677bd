// SPDX-License-Identifier: GPL-2.0-only
/*
 * Single registers of the guest's extended state, for instructions that are executed in software.
 * Called inside KVM_RUN, when the guest's state is this thread's: it is in the processor, or will be
 * after switch_fpu_return(), and no context switch comes while it is looked at.
 */
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include "host/seam.h"

static void begin(void)
{
	fpregs_lock();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

static void end(void)
{
	fpregs_unlock();
}

#define EACH_REGISTER(USE)                                                                         \
	USE(0)                                                                                     \
	USE(1)                                                                                     \
	USE(2)                                                                                     \
	USE(3)                                                                                     \
	USE(4)                                                                                     \
	USE(5)                                                                                     \
	USE(6)                                                                                     \
	USE(7)                                                                                     \
	USE(8)                                                                                     \
	USE(9)                                                                                     \
	USE(10)                                                                                    \
	USE(11)                                                                                    \
	USE(12)                                                                                    \
	USE(13)                                                                                    \
	USE(14)                                                                                    \
	USE(15)

struct vector {
	__u8 bytes[32];
};

#define READ_XMM(n)                                                                                \
	case n:                                                                                    \
		asm volatile("movdqu %%xmm" #n ", %0" : "=m"(*vector));                            \
		break;
#define READ_YMM(n)                                                                                \
	case n:                                                                                    \
		asm volatile("vmovdqu %%ymm" #n ", %0" : "=m"(*vector));                           \
		break;
#define WRITE_XMM(n)                                                                               \
	case n:                                                                                    \
		asm volatile("movdqu %0, %%xmm" #n : : "m"(*vector));                              \
		break;
/* The VEX-encoded form zeroes the register beyond what it writes, to its very end. */
#define WRITE_XMM_ALONE(n)                                                                         \
	case n:                                                                                    \
		asm volatile("vmovdqu %0, %%xmm" #n : : "m"(*vector));                             \
		break;
#define WRITE_YMM_ALONE(n)                                                                         \
	case n:                                                                                    \
		asm volatile("vmovdqu %0, %%ymm" #n : : "m"(*vector));                             \
		break;

static void read_register(unsigned int number, struct vector *vector, bool wide)
{
	if (wide) {
		switch (number) { EACH_REGISTER(READ_YMM) }
	} else {
		switch (number) { EACH_REGISTER(READ_XMM) }
	}
}

void kvmpp_fpu_read_vector(unsigned int number, void *value, unsigned int size)
{
	struct vector vector = {};

	begin();
	read_register(number, &vector, size > 16);
	end();
	memcpy(value, &vector, size);
}

void kvmpp_fpu_write_vector(unsigned int number, const void *value, unsigned int size, int clear_above)
{
	struct vector whole = {}, *vector = &whole;

	begin();
	/* A write of less than a register keeps the rest of its lowest 16 bytes. */
	if (size < 16 && !clear_above)
		read_register(number, vector, false);
	memcpy(vector, value, size);
	if (size > 16) {
		switch (number) { EACH_REGISTER(WRITE_YMM_ALONE) }
	} else if (clear_above) {
		switch (number) { EACH_REGISTER(WRITE_XMM_ALONE) }
	} else {
		switch (number) { EACH_REGISTER(WRITE_XMM) }
	}
	end();
}

#define EACH_MMX(USE) USE(0) USE(1) USE(2) USE(3) USE(4) USE(5) USE(6) USE(7)
#define READ_MMX(n)                                                                                \
	case n:                                                                                    \
		asm volatile("movq %%mm" #n ", %0" : "=m"(*value));                                \
		break;
#define WRITE_MMX(n)                                                                               \
	case n:                                                                                    \
		asm volatile("movq %0, %%mm" #n : : "m"(value));                                   \
		break;

void kvmpp_fpu_read_mmx(unsigned int number, __u64 *value)
{
	begin();
	switch (number) { EACH_MMX(READ_MMX) }
	end();
}

void kvmpp_fpu_write_mmx(unsigned int number, __u64 value)
{
	begin();
	switch (number) { EACH_MMX(WRITE_MMX) }
	end();
}

struct fxsave_image {
	__u8 bytes[512];
} __aligned(16);

void kvmpp_fpu_fxsave(void *image)
{
	struct fxsave_image *aligned = image;

	begin();
	asm volatile("fxsave64 %0" : "+m"(*aligned));
	end();
}

int kvmpp_fpu_fxrstor(const void *image)
{
	const struct fxsave_image *aligned = image;
	int failed = 0;

	begin();
	asm volatile("1: fxrstor64 %[image]\n"
		     "2:\n" _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_EFAULT_REG, %[failed])
		     : [failed] "+r"(failed)
		     : [image] "m"(*aligned));
	end();
	return failed ? -EINVAL : 0;
}
