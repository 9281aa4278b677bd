// SPDX-License-Identifier: GPL-2.0-only
#include "run/loop.h"

#include "host/trace.h"
#include "machine/vm.h"
#include "run/async_fault.h"
#include "run/clock_page.h"
#include "run/completion.h"
#include "run/deadline.h"
#include "run/debugger.h"
#include "run/dispatch.h"
#include "run/end_of_interrupt.h"
#include "run/fast_path.h"
#include "run/handlers.h"
#include "run/injection.h"
#include "run/page_log.h"
#include "run/resident.h"
#include "run/smm.h"
#include "run/software.h"
#include "run/task_priority.h"
#include "run/virtual_apic.h"
#include "run/wait.h"
#include "run/world_switch.h"

namespace kvmpp::run
{
namespace
{

namespace field = vmx::field;
using machine::MpState;
using machine::Request;
using machine::Vcpu;
using machine::VcpuCounter;

// For the time of one KVM_RUN.
class SignalMask : host::Pinned {
    public:
	explicit SignalMask(const Vcpu &vcpu) : set_{vcpu.signal_mask.has_value()}
	{
		if (set_)
			kvmpp_signal_mask_set(*vcpu.signal_mask);
	}
	~SignalMask()
	{
		if (set_)
			kvmpp_signal_mask_restore();
	}

    private:
	const bool set_;
};

class FpuEntered : host::Pinned {
    public:
	explicit FpuEntered(machine::Fpu &fpu) : fpu_{fpu} { fpu.enter(); }
	~FpuEntered() { fpu_.leave(); }

    private:
	machine::Fpu &fpu_;
};

Result<> interrupted(Vcpu &vcpu)
{
	vcpu.statistics.add(VcpuCounter::signals);
	vcpu.run().exit_reason = KVM_EXIT_INTR;
	return fail(EINTR);
}

void flush_translations(Vcpu &vcpu, u32 requests)
{
	auto &engine = vcpu.vm.hypervisor.engine();
	host::PreemptionOff off;
	const bool moved = vcpu.residency.take_moved();
	if (moved || requests & Request::flush_ept)
		engine.flush_ept(vcpu.tables().pointer());
	if (moved || requests & Request::flush_linear)
		engine.flush_vpid(vcpu.vpid());
}

void write_tsc(Vcpu &vcpu, vmx::Current vmcs)
{
	vmcs.write(field::tsc_offset, vcpu.tsc.raw_offset());
	if (vcpu.vm.hypervisor.scales_tsc())
		vmcs.write(field::tsc_multiplier, vcpu.tsc.factor());
}

[[gnu::noinline]] void serve_all_requests(Vcpu &vcpu, vmx::Current vmcs)
{
	const u32 requests = vcpu.mailbox.take();
	const bool moved = vcpu.residency.moved();
	if (requests || moved)
		flush_translations(vcpu, requests);
	// A sleep of the machine, which adjusts the host's TSC, clears every VMCS.
	if (vcpu.tsc.take_changed() || moved)
		write_tsc(vcpu, vmcs);
	if (requests & Request::unhalt)
		vcpu.unhalted = true;
	if (requests & Request::local_apic)
		follow_local_apic(vcpu, vmcs);
	if (requests & Request::msr_filter)
		vcpu.follow_msr_filter();
	if (requests & Request::page_log)
		follow_page_log(vcpu, vmcs);
	if (requests & Request::clock)
		update_clock_page(vcpu);
	if (requests & Request::steal_time &&
		vcpu.steal_time.come_back(vcpu.paravirtual_memory, kvmpp_run_delay_ns()))
		vcpu.mailbox.request(Request::flush_linear);
	if (requests & Request::async_fault)
		report_page(vcpu);
}

// What others have asked for, and what a move to another CPU brings. Interrupts on.
inline void serve_requests(Vcpu &vcpu, vmx::Current vmcs)
{
	if (vcpu.mailbox.requested() || vcpu.residency.moved() || vcpu.tsc.changed()) [[unlikely]]
		serve_all_requests(vcpu, vmcs);
}

// A guest that waits in HLT, or for its start-up IPI. False: a signal came.
Result<bool> wait_until_runnable(Vcpu &vcpu, vmx::Current vmcs)
{
	while (vcpu.mp_state != MpState::runnable) {
		TRY(wait_for_event(vcpu, vmcs));
		if (kvmpp_signal_pending())
			return false;
		serve_requests(vcpu, vmcs);
		choose_event(vcpu, vmcs);
		if (vcpu.events.smi)
			TRY(take_smi(vcpu, vmcs));
		if (vcpu.mp_state == MpState::halted && can_wake(vcpu, vmcs)) {
			vcpu.mp_state = MpState::runnable;
			vcpu.unhalted = false;
		}
	}
	return true;
}

// Whether the handler may bring data of the host, or of other guests, into the L1 data cache: the
// handlers of these touch the vCPU's own state alone.
constexpr bool touches_foreign_memory(vmx::ExitReason reason)
{
	switch (reason) {
	case vmx::ExitReason::external_interrupt: // its handler says so by itself
	case vmx::ExitReason::interrupt_window:
	case vmx::ExitReason::nmi_window:
	case vmx::ExitReason::preemption_timer:
	case vmx::ExitReason::tpr_below_threshold:
	case vmx::ExitReason::apic_write:
	case vmx::ExitReason::cpuid:
	case vmx::ExitReason::hlt:
	case vmx::ExitReason::vmcall:
	case vmx::ExitReason::cr_access:
	case vmx::ExitReason::dr_access:
	case vmx::ExitReason::io_instruction:
	case vmx::ExitReason::msr_read:
	case vmx::ExitReason::msr_write:
	case vmx::ExitReason::pause:
	case vmx::ExitReason::xsetbv:
	// To map a page looks at none; what is emulated instead says so by itself.
	case vmx::ExitReason::ept_violation: return false;
	default: return true;
	}
}

// How a stretch in the guest has ended; `answered`: its last exit was handled.
enum class Ended : u8 { refused, failed, exited, answered };

// Interrupts off. Runs the guest until it exits for more than the fast path has.
Ended run_guest(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const vmx::Current vmcs = exit.vmcs;
	const bool has_fast_path = fast_path_open(vcpu);
	KVMPP_CONSTRUCTED Stretch stretch{vcpu, vmcs};
	for (;;) {
		watch_deadline(vcpu, vmcs);
		vcpu.state.flush(vmcs);
		vcpu.statistics.add(VcpuCounter::entries);
		KVMPP_TRACE(entry, vcpu.id, vcpu.state.rip(vmcs));
		const bool entered = stretch.enter();
		if (vcpu.page_log.on) [[unlikely]]
			empty_page_log(vcpu, vmcs);
		vcpu.state.exited();
		if (!entered) [[unlikely]]
			return Ended::refused;
		exit.happened();
		if (exit.reason.entry_failed()) [[unlikely]]
			return Ended::failed;
		vcpu.residency.world().launched = true;
		vcpu.statistics.add_exit(exit.reason.basic());
		KVMPP_TRACE(exit, vcpu.id, exit.reason.raw, exit.rip(), exit.qualification());
		const FastPath fast = has_fast_path ? take_fast_path(exit) : FastPath::not_taken;
		if (fast != FastPath::again)
			return fast == FastPath::done ? Ended::answered : Ended::exited;
	}
}

// The guest's turn, and what its last exit asks for.
Result<After> run_once(Vcpu &vcpu, vmx::Current vmcs)
{
	serve_requests(vcpu, vmcs);
	if (vcpu.events.smi) [[unlikely]]
		TRY(take_smi(vcpu, vmcs));
	choose_event(vcpu, vmcs);
	if (vcpu.events.triple_fault)
		return shut_down(vcpu);
	if (vcpu.mp_state != MpState::runnable)
		return After::reenter;
	if ((vcpu.vm.may_need_software || vcpu.in_software) && needs_software(vcpu, vmcs)) [[unlikely]]
		return run_in_software(vcpu, vmcs);
	if (vcpu.task_priority.shared.value) [[unlikely]]
		show_task_priority(vcpu);
	if (vcpu.pv_eoi.enabled())
		offer_end_of_interrupt(vcpu);

	kvmpp_irq_disable();
	vcpu.mailbox.enter_guest();
	// Whoever posts from now on kicks this CPU; what was posted before is seen here.
	if (vcpu.mailbox.requested() || (vcpu.lapic && vcpu.lapic->attention()) ||
		kvmpp_work_pending() || vcpu.residency.moved() || vcpu.residency.lost()) {
		vcpu.mailbox.leave_guest();
		kvmpp_irq_enable();
		if (vcpu.pv_eoi.offered())
			take_end_of_interrupt(vcpu);
		TRY(vcpu.residency.status());
		return After::reenter;
	}

	write_event(vcpu, vmcs);
	if (vcpu.debugger.control) [[unlikely]]
		arm_debugger(vcpu, vmcs);
	KVMPP_CONSTRUCTED Exit exit{vcpu, vmcs};
	const Ended ended = run_guest(exit);
	vcpu.mailbox.leave_guest();
	if (vcpu.debugger.control) [[unlikely]]
		disarm_debugger(vcpu, vmcs);
	if (ended == Ended::exited || ended == Ended::failed)
		serve_host_event(exit);
	kvmpp_guest_leave();
	if (ended == Ended::refused) [[unlikely]]
		return entry_refused(vcpu, vmcs);
	if (ended == Ended::failed) [[unlikely]]
		return entry_failed(exit);

	recover_event(vcpu, vmcs, exit.reason.basic());
	if (vcpu.task_priority.shared.value) [[unlikely]]
		take_task_priority(vcpu);
	if (vcpu.pv_eoi.offered())
		take_end_of_interrupt(vcpu);
	if (ended == Ended::answered)
		return After::reenter;
	vcpu.l1d_unsafe |= touches_foreign_memory(exit.reason.basic());
	const Result<After> after = dispatch(exit);
	if (exit.reason.bus_locked() && after) [[unlikely]]
		return report_bus_lock(vcpu, *after);
	return after;
}

// What userspace wants to know at every return. KVM API, struct kvm_run.
void report_state(Vcpu &vcpu, vmx::Current vmcs)
{
	kvm_run &run = vcpu.run();
	run.if_flag = (vcpu.state.rflags(vmcs) & X86_EFLAGS_IF) != 0;
	run.cr8 = vcpu.cr8();
	run.apic_base = vcpu.apic_base();
	run.flags = vcpu.smm.active ? KVM_RUN_X86_SMM : 0;
	if (std::exchange(vcpu.bus_locked, false)) [[unlikely]]
		run.flags |= KVM_RUN_X86_BUS_LOCK;
	run.ready_for_interrupt_injection = !pic_in_vmm(vcpu) || window_open(vcpu, vmcs);
}

// An instruction that was executed in software under single-stepping is complete.
bool reports_step(Vcpu &vcpu, vmx::Current vmcs)
{
	if (!std::exchange(vcpu.debugger.stepped, false)) [[likely]]
		return false;
	debug_exit(vcpu, vmcs, x86::Vector::debug, machine::DebugRegisters::single_step);
	return true;
}

// Exits that the VMM has asked for, rather than an exit of the guest.
bool wants_user(Vcpu &vcpu, vmx::Current vmcs)
{
	kvm_run &run = vcpu.run();
	if (reports_step(vcpu, vmcs))
		return true;
	if (vcpu.io.ended_vector) {
		run.exit_reason = KVM_EXIT_IOAPIC_EOI;
		run.eoi.vector = *vcpu.io.ended_vector;
		vcpu.io.ended_vector.reset();
		return true;
	}
	if (vcpu.task_priority.accessed) {
		run.exit_reason = KVM_EXIT_TPR_ACCESS;
		run.tpr_access.rip = vcpu.task_priority.accessed->rip;
		run.tpr_access.is_write = vcpu.task_priority.accessed->write;
		vcpu.task_priority.accessed.reset();
		return true;
	}
	if (run.request_interrupt_window && pic_in_vmm(vcpu) && window_open(vcpu, vmcs)) {
		run.exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
		return true;
	}
	return false;
}

Result<> loop(Vcpu &vcpu, vmx::Current vmcs)
{
	for (;;) {
		if (vcpu.dirty_ring.soft_full()) [[unlikely]] {
			vcpu.run().exit_reason = KVM_EXIT_DIRTY_RING_FULL;
			vcpu.statistics.add(VcpuCounter::exits_to_user);
			return {};
		}
		if (vcpu.mp_state != MpState::runnable && !TRY(wait_until_runnable(vcpu, vmcs)))
			return interrupted(vcpu);
		if (TRY(run_once(vcpu, vmcs)) == After::exit_to_user) {
			vcpu.statistics.add(VcpuCounter::exits_to_user);
			return {};
		}
		if (wants_user(vcpu, vmcs)) {
			vcpu.statistics.add(VcpuCounter::exits_to_user);
			return {};
		}
		if (kvmpp_work_pending()) {
			vcpu.between_instructions = true;
			const int handled = kvmpp_work_handle();
			vcpu.between_instructions = false;
			if (handled == -EINTR)
				return interrupted(vcpu);
		}
	}
}

} // namespace

void trap_after_instruction(Vcpu &vcpu)
{
	if (vcpu.debugger.steps()) {
		vcpu.debugger.stepped = true;
		return;
	}
	// As the processor would have raised it.
	vcpu.debug.dr6 |= machine::DebugRegisters::single_step;
	vcpu.events.raise(x86::Exception::plain(x86::Vector::debug));
}

Result<> run(Vcpu &vcpu)
{
	SignalMask mask{vcpu};
	Resident resident = TRY(Resident::on(vcpu.residency));
	FpuEntered fpu{vcpu.fpu};
	const vmx::Current vmcs = resident.vmcs;
	vcpu.thread.take_current();
	// The VMM and the kernel ran.
	vcpu.l1d_unsafe = true;
	if (!vcpu.vmcs_initialized())
		vcpu.initialize_vmcs(vmcs);
	vcpu.exception_bitmap.set(vmcs, intercepted_exceptions(vcpu));
	if (vcpu.steal_time.enabled() && vcpu.steal_time.outdated(kvmpp_run_delay_ns())) // the VMM had to wait
		vcpu.mailbox.request(Request::steal_time);
	if (!vcpu.lapic)
		vcpu.set_cr8(vcpu.run().cr8);

	// What the guest was waiting for comes first, even if the VMM wants it to run no further.
	Result<After> completed = complete_io(vcpu, vmcs);
	Result<> result{};
	if (!completed)
		result = std::unexpected(completed.error());
	else if (*completed == After::reenter && !reports_step(vcpu, vmcs))
		// The last exit's reason stays: a VMM that only completes it may want to look again.
		result = vcpu.run().immediate_exit ? Result<>{fail(EINTR)} : loop(vcpu, vmcs);
	// An entry that failed.
	if (vcpu.pv_eoi.offered()) [[unlikely]]
		take_end_of_interrupt(vcpu);
	report_state(vcpu, vmcs);
	return result;
}

} // namespace kvmpp::run
