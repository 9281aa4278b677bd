// SPDX-License-Identifier: GPL-2.0-only
#include "run/emulation.h"

#include <algorithm>
#include "machine/vm.h"
#include "run/dispatch.h"
#include "run/emulated_guest.h"
#include "run/handlers.h"

namespace kvmpp::run
{
namespace
{

using x86::emulator::Executed;
using x86::emulator::Registers;
using x86::emulator::Stop;

// KVM API, KVM_EXIT_INTERNAL_ERROR with KVM_INTERNAL_ERROR_EMULATION.
After report_unknown(Vcpu &vcpu, const Executed &executed)
{
	kvm_run &run = vcpu.run();
	auto &failure = run.emulation_failure;
	run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
	failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	failure.insn_size = executed.byte_count;
	std::fill(std::begin(failure.insn_bytes), std::end(failure.insn_bytes), 0x90);
	std::copy_n(executed.bytes, executed.byte_count, failure.insn_bytes);
	// In words of 64 bits: the flags, and the size with the bytes.
	failure.ndata = 1 + (1 + sizeof(failure.insn_bytes)) / sizeof(u64);
	return After::exit_to_user;
}

// The instruction is complete: what it leaves behind besides registers.
void retire(Vcpu &vcpu, vmx::Current vmcs, const EmulatedGuest &guest, bool single_step)
{
	vcpu.state.instruction_passed();
	u32 blocking = 0;
	if (guest.unblocks_nmis() || guest.blocking())
		blocking = vcpu.state.interruptibility(vmcs);
	if (guest.unblocks_nmis())
		vcpu.state.set_interruptibility(blocking &= ~vmx::blocking::nmi);
	if (guest.blocking())
		vcpu.state.set_interruptibility(blocking | *guest.blocking());
	if (vcpu.debugger.steps()) {
		vcpu.debugger.stepped = true;
	} else if (single_step) {
		vcpu.debug.dr6 |= machine::DebugRegisters::single_step;
		vcpu.events.raise(x86::Exception::plain(x86::Vector::debug));
	}
}

} // namespace

void keep_new_task(Vcpu &vcpu, const x86::emulator::Registers &registers)
{
	vcpu.state.set_rip(registers.rip);
	vcpu.state.set_rflags(registers.rflags);
	vcpu.state.set_rsp(registers.gpr[x86::Gpr::rsp]);
	vcpu.in_software = true;
}

Result<After> emulate(Vcpu &vcpu, vmx::Current vmcs)
{
	vcpu.statistics.add(machine::VcpuCounter::instructions_emulated);
	// Memory that the guest names, through the VMM's mappings.
	vcpu.l1d_unsafe = true;
	auto &gprs = vcpu.residency.world().gprs;
	const u64 rip = vcpu.state.rip(vmcs), rsp = vcpu.state.rsp(vmcs),
		  rflags = vcpu.state.rflags(vmcs);
	gprs[x86::Gpr::rsp] = rsp;

	EmulatedGuest guest{vcpu, vmcs};
	Registers registers{gprs, rip, rflags};
	Executed executed;
	const auto outcome = execute(guest, registers, executed);
	if (const auto error = guest.host_error())
		return std::unexpected{*error};

	if (!outcome) {
		switch (outcome.error()) {
		case Stop::pending: vcpu.io.rip = rip; return After::exit_to_user;
		case Stop::exception:
			vcpu.io.forget_answers();
			if (vcpu.state.mode_may_have_changed())
				keep_new_task(vcpu, registers);
			return exit_for_writes(vcpu);
		case Stop::unknown: break;
		}
		vcpu.io.reset();
		// A program of the guest must not be able to stop the guest.
		if (guest.cpl() != 0 && !vcpu.vm.options().exit_on_emulation_failure) {
			vcpu.events.raise(x86::Exception::ud());
			return After::reenter;
		}
		return report_unknown(vcpu, executed);
	}

	vcpu.io.forget_answers();
	vcpu.state.set_rip(registers.rip);
	vcpu.state.set_rflags(registers.rflags);
	if (gprs[x86::Gpr::rsp] != rsp)
		vcpu.state.set_rsp(gprs[x86::Gpr::rsp]);
	if (guest.tpr_access() != DeviceAccess::TprAccess::none) [[unlikely]]
		vcpu.task_priority.note(rip, guest.tpr_access() == DeviceAccess::TprAccess::write);
	if (executed.retired)
		retire(vcpu, vmcs, guest, rflags & X86_EFLAGS_TF);
	if (guest.halted())
		return halt(vcpu);
	if (guest.exits_for_port())
		return After::exit_to_user;
	return exit_for_writes(vcpu);
}

// Entering a task by a gate of the IDT is no instruction; the others execute again.
Result<After> handle_task_switch(Exit &exit)
{
	using x86::emulator::TaskSwitch;
	Vcpu &vcpu = exit.vcpu;
	const u64 qualification = exit.qualification();
	const auto reason = static_cast<TaskSwitch>(qualification >> 30 & 3);
	if (reason != TaskSwitch::interrupt_gate)
		return emulate(vcpu, exit.vmcs);

	std::optional<u32> error_code;
	u64 rip = exit.rip();
	if (const auto begun = vcpu.events.begun) {
		if (begun->info.has_error_code())
			error_code = begun->error_code;
		rip += begun->instruction_length;
		// Only an exception combines with one that its delivery meets.
		if (begun->info.type() != vmx::EventType::hardware_exception)
			vcpu.events.begun.reset();
	}
	const u16 old_task = vcpu.state.segment(exit.vmcs, x86::SegmentName::tr).selector;
	auto &gprs = vcpu.residency.world().gprs;
	gprs[x86::Gpr::rsp] = vcpu.state.rsp(exit.vmcs);
	EmulatedGuest guest{vcpu, exit.vmcs};
	Registers registers{gprs, rip, vcpu.state.rflags(exit.vmcs)};
	const auto outcome = switch_task(guest, registers, static_cast<u16>(qualification), reason, error_code);
	if (const auto error = guest.host_error())
		return std::unexpected{*error};
	if (!outcome && outcome.error() != Stop::exception) {
		const u64 data[] = {exit.reason.raw, qualification};
		return internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data);
	}
	if (!outcome) {
		// Else the fault was the old task's, and nothing has changed.
		if (vcpu.state.segment(exit.vmcs, x86::SegmentName::tr).selector != old_task)
			keep_new_task(vcpu, registers);
		return After::reenter;
	}
	vcpu.events.begun.reset();
	vcpu.state.set_rip(registers.rip);
	vcpu.state.set_rflags(registers.rflags);
	vcpu.state.set_rsp(gprs[x86::Gpr::rsp]);
	return After::reenter;
}

} // namespace kvmpp::run
