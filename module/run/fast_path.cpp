// SPDX-License-Identifier: GPL-2.0-only
#include "run/fast_path.h"

#include <linux/kvm_para.h>
#include "machine/vm.h"
#include "run/deadline.h"
#include "run/handlers.h"
#include "x86/msr.h"

namespace kvmpp::run
{
namespace
{

namespace msr = x86::msr;
using x86::ApicRegister;

// An interrupt for one processor by its ID: others go to as many as there are.
bool has_one_target(u64 command)
{
	constexpr u64 logical = 1 << 11, shorthands = 3 << 18, self = 1 << 18, everybody = ~u32{0};
	return (command & shorthands) == self ||
	       (!(command & (shorthands | logical)) && command >> 32 != everybody);
}

// One of the others gives the CPU away, one goes to as many processors as it names.
bool hypercall_is_short(u32 number)
{
	return number != KVM_HC_SCHED_YIELD && number != KVM_HC_SEND_IPI;
}

// Whether the guest's registers of its local APIC are in order: it may have ended an interrupt in its memory.
bool apic_is_current(const Vcpu &vcpu)
{
	return vcpu.lapic && !vcpu.pv_eoi.offered() && vcpu.apic_help != machine::ApicHelp::delivery;
}

// The end of an interrupt that nobody else waits for.
bool end_is_short(const Vcpu &vcpu)
{
	if (!apic_is_current(vcpu))
		return false;
	const u8 vector = vcpu.lapic->highest_in_service();
	return vector == 0 || !vcpu.vm.interrupts.wants_eoi(*vcpu.lapic, vector);
}

// By a write to memory.
bool ends_interrupt(Exit &exit)
{
	constexpr u64 offset = 0xfff;
	return exit.vcpu.secondary_controls.get() & vmx::secondary::apic_virtualization &&
	       (exit.qualification() & offset) == static_cast<u16>(ApicRegister::eoi) && end_is_short(exit.vcpu);
}

bool write_is_short(Exit &exit)
{
	const Vcpu &vcpu = exit.vcpu;
	switch (exit.ecx()) {
	case msr::tsc_deadline:
	case msr::spec_ctrl: return true;
	case x86::x2apic_msr_of(ApicRegister::self_ipi): return apic_is_current(vcpu);
	case x86::x2apic_msr_of(ApicRegister::icr): return apic_is_current(vcpu) && has_one_target(exit.edx_eax());
	case x86::x2apic_msr_of(ApicRegister::eoi): return end_is_short(vcpu);
	default: return false;
	}
}

} // namespace

bool answer_fast(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	switch (exit.reason.basic()) {
	case vmx::ExitReason::vmcall:
		return hypercall_is_short(exit.eax()) && handle_vmcall(exit).has_value();
	case vmx::ExitReason::msr_write: return write_is_short(exit) && answer_msr_write(exit);
	case vmx::ExitReason::msr_read:
		return (!x86::is_x2apic_msr(exit.ecx()) || apic_is_current(vcpu)) && answer_msr_read(exit);
	case vmx::ExitReason::pause:
		// Nobody else could be waited for.
		return vcpu.vm.vcpus.count() == 1 && handle_nop(exit).has_value();
	case vmx::ExitReason::io_instruction: return answer_port_write(exit);
	case vmx::ExitReason::apic_write: return ends_interrupt(exit) && handle_apic_write(exit).has_value();
	case vmx::ExitReason::preemption_timer: look_at_deadline(vcpu); return true;
	default: return false;
	}
}

} // namespace kvmpp::run
