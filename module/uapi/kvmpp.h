/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvmpp adds to the KVM ABI: its name, its place and its version. Everything else is
 * <linux/kvm.h>; the parts of it that can never change are pinned below.
 */
#pragma once

/*
 * In C++ an empty struct has a size, which Linux before 6.6 forgot where it declares flexible
 * arrays: structs would be longer than in C, and ioctl numbers, which contain the size, wrong.
 */
#ifdef __cplusplus
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#endif

#include <linux/kvm.h>

#define KVMPP_DEVICE_NAME "kvmpp"
#define KVMPP_DEVICE_PATH "/dev/" KVMPP_DEVICE_NAME

/* The version of the module and of the programs that come with it. */
#define KVMPP_VERSION "0.1"

#ifdef __cplusplus
#include "uapi/kvm_abi.h"

static_assert(KVM_API_VERSION == 12);

/* kvm_run is shared memory: where its members lie is the ABI. */
static_assert(__builtin_offsetof(kvm_run, immediate_exit) == 1);
static_assert(__builtin_offsetof(kvm_run, exit_reason) == 8);
static_assert(__builtin_offsetof(kvm_run, apic_base) == 24);
static_assert(__builtin_offsetof(kvm_run, io) == 32);
static_assert(__builtin_offsetof(kvm_run, kvm_valid_regs) == 288);
#endif
