// SPDX-License-Identifier: GPL-2.0-only
// KVM_CHECK_EXTENSION. What is not here is not offered: an answer other than 0 is a promise.
#include <algorithm>
#include <linux/kvm.h>
#include "api/hypervisor.h"
#include "api/msr_filter.h"
#include "api/vcpu.h"
#include "machine/clock.h"
#include "machine/debugger.h"
#include "machine/routing.h"
#include "machine/memory_map.h"
#include "machine/options.h"
#include "machine/vcpu_set.h"
#include "x86/machine_check.h"

namespace kvmpp::api
{

int check_extension(long capability)
{
	const bool has_xsave = hypervisor().cpuid_host().xcr0 != 0;
	switch (capability) {
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
	case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
	case KVM_CAP_SYNC_MMU:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_SET_TSS_ADDR:
	case KVM_CAP_SET_IDENTITY_MAP_ADDR:
	case KVM_CAP_EXT_CPUID:
	case KVM_CAP_CHECK_EXTENSION_VM:
	case KVM_CAP_IRQCHIP:
	case KVM_CAP_IRQ_INJECT_STATUS:
	case KVM_CAP_IRQFD:
	case KVM_CAP_IRQFD_RESAMPLE:
	case KVM_CAP_SIGNAL_MSI:
	case KVM_CAP_SPLIT_IRQCHIP:
	case KVM_CAP_ENABLE_CAP:
	case KVM_CAP_ENABLE_CAP_VM:
	case KVM_CAP_COALESCED_PIO:
	case KVM_CAP_IOEVENTFD:
	case KVM_CAP_IOEVENTFD_ANY_LENGTH:
	case KVM_CAP_PIT2:
	case KVM_CAP_PIT_STATE2:
	case KVM_CAP_REINJECT_CONTROL:
	case KVM_CAP_HLT:
	case KVM_CAP_HALT_POLL:
	case KVM_CAP_MP_STATE:
	case KVM_CAP_USER_NMI:
	case KVM_CAP_SET_BOOT_CPU_ID:
	case KVM_CAP_NOP_IO_DELAY:
	case KVM_CAP_CLOCKSOURCE:
	case KVM_CAP_GET_TSC_KHZ:
	case KVM_CAP_TSC_DEADLINE_TIMER:
	case KVM_CAP_DEBUGREGS:
	case KVM_CAP_VCPU_EVENTS:
	case KVM_CAP_BINARY_STATS_FD:
	case KVM_CAP_GET_MSR_FEATURES:
	case KVM_CAP_DISABLE_QUIRKS:
	case KVM_CAP_MSR_PLATFORM_INFO:
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
	case KVM_CAP_EXCEPTION_PAYLOAD:
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
	case KVM_CAP_X86_MSR_FILTER:
	case KVM_CAP_VCPU_ATTRIBUTES:
	case KVM_CAP_SYS_ATTRIBUTES:
	case KVM_CAP_SET_GUEST_DEBUG:
	case KVM_CAP_X86_ROBUST_SINGLESTEP:
	case KVM_CAP_SREGS2:
	case KVM_CAP_KVMCLOCK_CTRL:
	case KVM_CAP_X86_SMM:
	case KVM_CAP_ASYNC_PF:
	case KVM_CAP_ASYNC_PF_INT:
	case KVM_CAP_INTERNAL_ERROR_DATA:
	case KVM_CAP_IMMEDIATE_EXIT: return 1;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL: return machine::DirtyRing::max_bytes;
	case KVM_CAP_IRQ_ROUTING: return machine::RoutingTable::max_routes;
	case KVM_CAP_X2APIC_API:
		return KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	case KVM_CAP_COALESCED_MMIO: return KVM_COALESCED_MMIO_PAGE_OFFSET;
	case KVM_CAP_X86_USER_SPACE_MSR: return user_msr_reasons;
	case KVM_CAP_X86_DISABLE_EXITS: return machine::VmOptions::known_exits();
	case KVM_CAP_DISABLE_QUIRKS2: return machine::VmOptions::known_quirks;
	case KVM_CAP_X86_BUS_LOCK_EXIT:
		return hypervisor().detects_bus_locks() ? KVM_BUS_LOCK_DETECTION_OFF | KVM_BUS_LOCK_DETECTION_EXIT : 0;
	case KVM_CAP_X86_NOTIFY_VMEXIT: return hypervisor().notifies();
	case KVM_CAP_ADJUST_CLOCK: return machine::Clock::known_flags;
	case KVM_CAP_SYNC_REGS: return exchanged_registers;
	case KVM_CAP_SET_GUEST_DEBUG2: return machine::Debugger::known;
	case KVM_CAP_XSAVE2: return has_xsave ? sizeof(kvm_xsave) : 0;
	// Of use where the guest's accesses to TPR exit.
	case KVM_CAP_VAPIC: return !hypervisor().engine().controls().virtualizes_apic_accesses();
	case KVM_CAP_TSC_CONTROL:
	case KVM_CAP_VM_TSC_CONTROL: return hypervisor().scales_tsc();
	case KVM_CAP_MCE: return x86::MachineCheck::max_banks;
	case KVM_CAP_XSAVE:
	case KVM_CAP_XCRS: return has_xsave;
	case KVM_CAP_NR_VCPUS: return static_cast<int>(std::min(kvmpp_cpu_limit(), 1024u));
	case KVM_CAP_MAX_VCPUS: return machine::VcpuSet::max_vcpus;
	case KVM_CAP_MAX_VCPU_ID: return machine::VcpuSet::max_id;
	case KVM_CAP_NR_MEMSLOTS: return machine::max_slots; // in each address space
	case KVM_CAP_MULTI_ADDRESS_SPACE: return machine::address_spaces;
	default: return 0;
	}
}

} // namespace kvmpp::api
