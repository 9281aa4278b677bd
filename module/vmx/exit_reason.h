// SPDX-License-Identifier: GPL-2.0-only
// Why a guest was left. SDM vol. 3, 25.9.1 and appendix C; numbers are the UAPI's.
#pragma once

#include <asm/vmx.h>
#include "host/types.h"

namespace kvmpp::vmx
{

enum class ExitReason : u16 {
	exception_or_nmi = EXIT_REASON_EXCEPTION_NMI,
	external_interrupt = EXIT_REASON_EXTERNAL_INTERRUPT,
	triple_fault = EXIT_REASON_TRIPLE_FAULT,
	init_signal = EXIT_REASON_INIT_SIGNAL,
	sipi_signal = EXIT_REASON_SIPI_SIGNAL,
	interrupt_window = EXIT_REASON_INTERRUPT_WINDOW,
	nmi_window = EXIT_REASON_NMI_WINDOW,
	task_switch = EXIT_REASON_TASK_SWITCH,
	cpuid = EXIT_REASON_CPUID,
	hlt = EXIT_REASON_HLT,
	invd = EXIT_REASON_INVD,
	invlpg = EXIT_REASON_INVLPG,
	rdpmc = EXIT_REASON_RDPMC,
	rdtsc = EXIT_REASON_RDTSC,
	vmcall = EXIT_REASON_VMCALL,
	vmclear = EXIT_REASON_VMCLEAR,
	vmlaunch = EXIT_REASON_VMLAUNCH,
	vmptrld = EXIT_REASON_VMPTRLD,
	vmptrst = EXIT_REASON_VMPTRST,
	vmread = EXIT_REASON_VMREAD,
	vmresume = EXIT_REASON_VMRESUME,
	vmwrite = EXIT_REASON_VMWRITE,
	vmxoff = EXIT_REASON_VMOFF,
	vmxon = EXIT_REASON_VMON,
	cr_access = EXIT_REASON_CR_ACCESS,
	dr_access = EXIT_REASON_DR_ACCESS,
	io_instruction = EXIT_REASON_IO_INSTRUCTION,
	msr_read = EXIT_REASON_MSR_READ,
	msr_write = EXIT_REASON_MSR_WRITE,
	invalid_state = EXIT_REASON_INVALID_STATE,
	msr_load_failed = EXIT_REASON_MSR_LOAD_FAIL,
	mwait = EXIT_REASON_MWAIT_INSTRUCTION,
	monitor_trap = EXIT_REASON_MONITOR_TRAP_FLAG,
	monitor = EXIT_REASON_MONITOR_INSTRUCTION,
	pause = EXIT_REASON_PAUSE_INSTRUCTION,
	machine_check_at_entry = EXIT_REASON_MCE_DURING_VMENTRY,
	tpr_below_threshold = EXIT_REASON_TPR_BELOW_THRESHOLD,
	apic_access = EXIT_REASON_APIC_ACCESS,
	eoi_induced = EXIT_REASON_EOI_INDUCED,
	gdtr_idtr = EXIT_REASON_GDTR_IDTR,
	ldtr_tr = EXIT_REASON_LDTR_TR,
	ept_violation = EXIT_REASON_EPT_VIOLATION,
	ept_misconfiguration = EXIT_REASON_EPT_MISCONFIG,
	invept = EXIT_REASON_INVEPT,
	rdtscp = EXIT_REASON_RDTSCP,
	preemption_timer = EXIT_REASON_PREEMPTION_TIMER,
	invvpid = EXIT_REASON_INVVPID,
	wbinvd = EXIT_REASON_WBINVD,
	xsetbv = EXIT_REASON_XSETBV,
	apic_write = EXIT_REASON_APIC_WRITE,
	rdrand = EXIT_REASON_RDRAND,
	invpcid = EXIT_REASON_INVPCID,
	vmfunc = EXIT_REASON_VMFUNC,
	encls = EXIT_REASON_ENCLS,
	rdseed = EXIT_REASON_RDSEED,
	pml_full = EXIT_REASON_PML_FULL,
	xsaves = EXIT_REASON_XSAVES,
	xrstors = EXIT_REASON_XRSTORS,
	umwait = EXIT_REASON_UMWAIT,
	tpause = EXIT_REASON_TPAUSE,
	bus_lock = EXIT_REASON_BUS_LOCK,
	notify = EXIT_REASON_NOTIFY,
};

struct ExitReasonField {
	u32 raw = 0;

	constexpr ExitReason basic() const { return static_cast<ExitReason>(raw & 0xffff); }
	// It has locked the bus meanwhile (SDM vol. 3, 25.9.1).
	constexpr bool bus_locked() const { return raw & 1 << 26; }
	// The guest was not entered at all: its state or an MSR to load was refused.
	constexpr bool entry_failed() const { return raw & VMX_EXIT_REASONS_FAILED_VMENTRY; }
};

} // namespace kvmpp::vmx
