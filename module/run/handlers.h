// SPDX-License-Identifier: GPL-2.0-only
// The exit handlers, by the file that holds them. Each completes the instruction that exited, raises
// an exception in the guest, or fills kvm_run. All run with interrupts on and may sleep.
#pragma once

#include "run/exit.h"

namespace kvmpp::run
{

// exception.cpp
Result<After> handle_exception(Exit &exit);
// instructions.cpp
Result<After> handle_cpuid(Exit &exit);
Result<After> handle_hlt(Exit &exit);
// What HLT does: the vCPU waits here, or its VMM decides.
Result<After> halt(Vcpu &vcpu);
Result<After> handle_vmcall(Exit &exit);
// VMMCALL, which is #UD here, becomes VMCALL in the guest's code; RSM leaves SMM.
Result<After> handle_invalid_opcode(Exit &exit);
Result<After> handle_pause(Exit &exit);
Result<After> handle_nop(Exit &exit); // INVD, WBINVD: nothing to do
Result<After> handle_monitor_mwait(Exit &exit);
Result<After> handle_undefined(Exit &exit);
Result<After> handle_rdpmc(Exit &exit);
Result<After> handle_xsetbv(Exit &exit);
// control_registers.cpp
Result<After> handle_cr_access(Exit &exit);
Result<After> handle_dr_access(Exit &exit);
// msr_exits.cpp
Result<After> handle_msr_read(Exit &exit);
Result<After> handle_msr_write(Exit &exit);
// The accesses that go well. False: they do not, and nothing has happened.
bool answer_msr_read(Exit &exit);
bool answer_msr_write(Exit &exit);
// With what the VMM made of a refused access.
After complete_msr(Vcpu &vcpu, vmx::Current vmcs, machine::IoState::Waiting waiting);
// ports.cpp
Result<After> handle_io(Exit &exit);
// A write for which interrupts may stay off, to an ioeventfd. False: it is none, and nothing has happened.
bool answer_port_write(Exit &exit);
// ept_exits.cpp
Result<After> handle_ept_violation(Exit &exit);
Result<After> handle_ept_misconfiguration(Exit &exit);
// page_log.cpp
Result<After> handle_page_log_full(Exit &exit);
// reports.cpp
Result<After> handle_notify(Exit &exit);
// The guest has locked the bus, perhaps besides what it has exited for: the VMM decides what becomes of it.
After report_bus_lock(Vcpu &vcpu, After after);
// virtual_apic.cpp: the guest has ended an interrupt, or written a register; it goes on behind that.
Result<After> handle_eoi_induced(Exit &exit);
Result<After> handle_apic_write(Exit &exit);
// An access to a register that the processor does not do by itself.
Result<After> handle_apic_access(Exit &exit);
// emulation.cpp
Result<After> handle_task_switch(Exit &exit);

} // namespace kvmpp::run
