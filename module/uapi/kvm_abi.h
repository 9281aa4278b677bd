// SPDX-License-Identifier: GPL-2.0-only
// The KVM ABI as compiled here must be the ABI of C: numbers of requests hold the sizes of structs.
#pragma once

#include <linux/kvm.h>

static_assert(KVM_GET_MSRS == 0xc008ae88 && KVM_SET_MSRS == 0x4008ae89);
static_assert(KVM_GET_SUPPORTED_CPUID == 0xc008ae05 && KVM_SET_CPUID2 == 0x4008ae90);
static_assert(KVM_GET_MSR_INDEX_LIST == 0xc004ae02 && KVM_SET_SIGNAL_MASK == 0x4004ae8b);
static_assert(KVM_GET_XSAVE == 0x9000aea4 && KVM_SET_XSAVE == 0x5000aea5);
static_assert(KVM_GET_LAPIC == 0x8400ae8e && KVM_GET_IRQCHIP == 0xc208ae62);
static_assert(KVM_SET_USER_MEMORY_REGION == 0x4020ae46 && KVM_IOEVENTFD == 0x4040ae79);
static_assert(KVM_GET_REGS == 0x8090ae81 && KVM_GET_SREGS == 0x8138ae83);
static_assert(KVM_GET_VCPU_EVENTS == 0x8040ae9f && KVM_GET_DEBUGREGS == 0x8080aea1);
static_assert(KVM_GET_CLOCK == 0x8030ae7c && KVM_GET_PIT2 == 0x8070ae9f);
