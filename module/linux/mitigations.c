// SPDX-License-Identifier: GPL-2.0-only
/* Which speculation mitigations of this host concern a world switch. */
#include <linux/cpu.h>
#include <asm/cpufeature.h>
#include <asm/hardirq.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/vmx.h>
#include "host/seam.h"

/* The kernel's choice for L1TF, unless the processor says that no flush is due at entry. */
static __u32 l1tf(void)
{
	__u64 capabilities = 0;
	__u32 how = boot_cpu_has(X86_FEATURE_FLUSH_L1D) ? KVMPP_L1TF_FLUSH_MSR : 0;

	if (!boot_cpu_has_bug(X86_BUG_L1TF))
		return 0;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, capabilities);
	if (capabilities & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH)
		return 0;

	switch (l1tf_mitigation) {
	case L1TF_MITIGATION_OFF:
		return 0;
	case L1TF_MITIGATION_FULL:
	case L1TF_MITIGATION_FULL_FORCE:
		return KVMPP_L1TF_FLUSH_ALWAYS | how;
	default:
		return KVMPP_L1TF_FLUSH_COND | how;
	}
}

__u32 kvmpp_mitigations(void)
{
	__u32 result = l1tf();

#define NOTE(feature, mitigation) (boot_cpu_has(feature) ? (mitigation) : 0)
	result |= NOTE(X86_FEATURE_CLEAR_CPU_BUF, KVMPP_CLEAR_CPU_BUFFERS);
	result |= NOTE(X86_FEATURE_MSR_SPEC_CTRL, KVMPP_SPEC_CTRL);
	result |= NOTE(X86_FEATURE_RSB_VMEXIT, KVMPP_RSB_FILL);
	result |= NOTE(X86_FEATURE_RSB_VMEXIT_LITE, KVMPP_RSB_FILL_ONE);
	result |= NOTE(X86_FEATURE_USE_IBPB, KVMPP_IBPB_ON_SWITCH);
#ifdef X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT
	result |= NOTE(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT, KVMPP_CLEAR_BRANCH_HISTORY);
#endif
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	result |= NOTE(X86_FEATURE_IBPB_EXIT_TO_USER, KVMPP_IBPB_ON_USER_EXIT);
#endif
#undef NOTE
	if (boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off())
		result |= KVMPP_SMALL_CODE_PAGES;
	if (static_branch_unlikely(&mmio_stale_data_clear))
		result |= KVMPP_CLEAR_CPU_BUFFERS_MMIO;
	return result;
}

int kvmpp_l1d_flush_wanted(void)
{
	int wanted = kvm_get_cpu_l1tf_flush_l1d();

	kvm_clear_cpu_l1tf_flush_l1d();
	return wanted;
}

__u64 kvmpp_spec_ctrl_host(void)
{
	return this_cpu_read(x86_spec_ctrl_current);
}

void kvmpp_branch_barrier(void)
{
	indirect_branch_prediction_barrier();
}

void kvmpp_branch_barrier_on_user_exit(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}
