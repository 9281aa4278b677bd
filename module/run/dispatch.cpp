// SPDX-License-Identifier: GPL-2.0-only
#include "run/dispatch.h"

#include <algorithm>
#include "run/deadline.h"
#include "run/handlers.h"
#include "run/injection.h"

namespace kvmpp::run
{

using vmx::ExitReason;

// One switch, no table of pointers: an indirect call costs a retpoline.
Result<After> dispatch(Exit &exit)
{
	switch (exit.reason.basic()) {
	case ExitReason::exception_or_nmi: return handle_exception(exit);
	// Interrupts are on again, so the kernel has taken it.
	case ExitReason::external_interrupt: return After::reenter;
	case ExitReason::triple_fault: return shut_down(exit.vcpu);
	// The next choice of an event sees that nothing blocks it.
	case ExitReason::interrupt_window:
	case ExitReason::nmi_window:
	case ExitReason::tpr_below_threshold: return After::reenter;
	case ExitReason::notify:
		if (!exit.vcpu.vm.options().notifies)
			break;
		return handle_notify(exit);
	case ExitReason::bus_lock:
		if (!exit.vcpu.vm.options().exits_on_bus_lock)
			break;
		return report_bus_lock(exit.vcpu, After::reenter);
	case ExitReason::preemption_timer: look_at_deadline(exit.vcpu); return After::reenter;
	case ExitReason::eoi_induced:
		if (exit.vcpu.apic_help != machine::ApicHelp::delivery)
			break;
		return handle_eoi_induced(exit);
	case ExitReason::apic_write:
	case ExitReason::apic_access:
		if (!(exit.vcpu.secondary_controls.get() & vmx::secondary::apic_virtualization))
			break;
		return exit.reason.basic() == ExitReason::apic_write ? handle_apic_write(exit)
								     : handle_apic_access(exit);
	case ExitReason::task_switch: return handle_task_switch(exit);
	case ExitReason::cpuid: return handle_cpuid(exit);
	case ExitReason::hlt: return handle_hlt(exit);
	case ExitReason::rdpmc: return handle_rdpmc(exit);
	case ExitReason::vmcall: return handle_vmcall(exit);
	case ExitReason::cr_access: return handle_cr_access(exit);
	case ExitReason::dr_access: return handle_dr_access(exit);
	case ExitReason::io_instruction: return handle_io(exit);
	case ExitReason::msr_read: return handle_msr_read(exit);
	case ExitReason::msr_write: return handle_msr_write(exit);
	case ExitReason::pause: return handle_pause(exit);
	case ExitReason::ept_violation: return handle_ept_violation(exit);
	case ExitReason::ept_misconfiguration: return handle_ept_misconfiguration(exit);
	case ExitReason::pml_full:
		if (!exit.vcpu.page_log.on)
			break;
		return handle_page_log_full(exit);
	case ExitReason::xsetbv: return handle_xsetbv(exit);
	case ExitReason::invd:
	case ExitReason::wbinvd: return handle_nop(exit);
	case ExitReason::mwait:
	case ExitReason::monitor: return handle_monitor_mwait(exit);
	// Nested virtualization is not offered, nor are these.
	case ExitReason::vmclear:
	case ExitReason::vmlaunch:
	case ExitReason::vmptrld:
	case ExitReason::vmptrst:
	case ExitReason::vmread:
	case ExitReason::vmresume:
	case ExitReason::vmwrite:
	case ExitReason::vmxoff:
	case ExitReason::vmxon:
	case ExitReason::invept:
	case ExitReason::invvpid:
	case ExitReason::vmfunc:
	case ExitReason::encls: return handle_undefined(exit);
	// The machine check has been handed to the host.
	case ExitReason::machine_check_at_entry: return After::reenter;
	// Their controls are never set, or they cannot happen in a guest.
	case ExitReason::init_signal:
	case ExitReason::sipi_signal:
	case ExitReason::invlpg:
	case ExitReason::rdtsc:
	case ExitReason::invalid_state:
	case ExitReason::msr_load_failed:
	case ExitReason::monitor_trap:
	case ExitReason::gdtr_idtr:
	case ExitReason::ldtr_tr:
	case ExitReason::rdtscp:
	case ExitReason::rdrand:
	case ExitReason::invpcid:
	case ExitReason::rdseed:
	case ExitReason::xsaves:
	case ExitReason::xrstors:
	case ExitReason::umwait:
	case ExitReason::tpause: break;
	}
	const u64 data[] = {exit.reason.raw, kvmpp_cpu_current()};
	return internal_error(exit.vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data);
}

void serve_host_event(Exit &exit)
{
	if (exit.reason.basic() == ExitReason::machine_check_at_entry) {
		kvmpp_deliver_machine_check();
		return;
	}
	if (exit.reason.basic() != ExitReason::exception_or_nmi)
		return;
	const vmx::EventInfo event = exit.event();
	if (event.type() == vmx::EventType::nmi)
		kvmpp_deliver_nmi();
	else if (event.vector() == static_cast<u8>(x86::Vector::machine_check))
		kvmpp_deliver_machine_check();
}

After entry_refused(Vcpu &vcpu, vmx::Current vmcs)
{
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_FAIL_ENTRY;
	run.fail_entry.hardware_entry_failure_reason = vmcs.read(vmx::field::instruction_error);
	run.fail_entry.cpu = kvmpp_cpu_current();
	return After::exit_to_user;
}

After entry_failed(Exit &exit)
{
	kvm_run &run = exit.vcpu.run();
	run.exit_reason = KVM_EXIT_FAIL_ENTRY;
	run.fail_entry.hardware_entry_failure_reason = exit.reason.raw;
	run.fail_entry.cpu = kvmpp_cpu_current();
	return After::exit_to_user;
}

After shut_down(Vcpu &vcpu)
{
	vcpu.events.triple_fault = false;
	vcpu.run().exit_reason = KVM_EXIT_SHUTDOWN;
	return After::exit_to_user;
}

After internal_error(Vcpu &vcpu, u32 suberror, std::span<const u64> data)
{
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run.internal.suberror = suberror;
	run.internal.ndata = data.size();
	std::copy(data.begin(), data.end(), run.internal.data);
	return After::exit_to_user;
}

bool window_open(Vcpu &vcpu, vmx::Current vmcs)
{
	if (vcpu.lapic && !vcpu.lapic->accepts_pic())
		return false;
	return !vcpu.events.user_interrupt && !vcpu.events.next && !vcpu.events.begun &&
	       interrupts_allowed(vcpu, vmcs);
}

} // namespace kvmpp::run
