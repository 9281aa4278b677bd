// SPDX-License-Identifier: GPL-2.0-only
#include "run/debugger.h"

#include "machine/vm.h"

namespace kvmpp::run
{

namespace field = vmx::field;
using machine::DebugRegisters;
using x86::Vector;

u32 intercepted_exceptions(const Vcpu &vcpu)
{
	const auto exits = [](Vector vector) { return u32{1} << static_cast<u8>(vector); };
	// Exceptions that must not stay between the guest and itself: machine checks are the
	// host's; #DB and #AC can otherwise be delivered for ever without an exit (CVE-2015-8104,
	// CVE-2015-5307). #UD: for the hypercalls of a guest that was made for another processor, and for RSM,
	// which the processor knows in its own SMM only.
	return exits(Vector::machine_check) | exits(Vector::debug) | exits(Vector::alignment_check) |
	       (vcpu.debugger.takes_int3() ? exits(Vector::breakpoint) : 0) |
	       (vcpu.smm.active || vcpu.vm.options().has_quirk(KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
			       ? exits(Vector::invalid_opcode)
			       : 0);
}

void arm_debugger(Vcpu &vcpu, vmx::Current vmcs)
{
	machine::Debugger &debugger = vcpu.debugger;
	if (debugger.steps()) {
		const u64 rflags = vcpu.state.rflags(vmcs);
		debugger.guests_trap_flag = rflags & X86_EFLAGS_TF;
		vcpu.state.set_rflags(rflags | X86_EFLAGS_TF);
		// An entry with TF refuses to hold interrupts off for an instruction (SDM vol. 3,
		// 27.3.1.5).
		const u32 blocking = vcpu.state.interruptibility(vmcs);
		if (blocking & (vmx::blocking::sti | vmx::blocking::mov_ss))
			vcpu.state.set_interruptibility(
				blocking & ~(vmx::blocking::sti | vmx::blocking::mov_ss));
	}
	vcpu.state.flush(vmcs);
	if (debugger.has_breakpoints())
		vmcs.write(field::guest_dr7, debugger.dr7);
}

void disarm_debugger(Vcpu &vcpu, vmx::Current vmcs)
{
	machine::Debugger &debugger = vcpu.debugger;
	if (debugger.steps() && !debugger.guests_trap_flag)
		vcpu.state.set_rflags(vcpu.state.rflags(vmcs) & ~u64{X86_EFLAGS_TF});
	if (debugger.has_breakpoints())
		vcpu.state.set_dr7(vcpu.state.dr7());
}

After debug_exit(Vcpu &vcpu, vmx::Current vmcs, Vector vector, u64 dr6)
{
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_DEBUG;
	run.debug.arch.exception = static_cast<u32>(vector);
	run.debug.arch.pc = vcpu.state.rip(vmcs);
	if (vcpu.mode(vmcs) != x86::Mode::long64)
		run.debug.arch.pc = static_cast<u32>(
			run.debug.arch.pc + vcpu.state.segment_base(vmcs, x86::SegmentName::cs));
	run.debug.arch.dr6 = dr6 | DebugRegisters::dr6_fixed;
	run.debug.arch.dr7 = vcpu.debugger.has_breakpoints() ? vcpu.debugger.dr7 : vcpu.state.dr7();
	return After::exit_to_user;
}

} // namespace kvmpp::run
