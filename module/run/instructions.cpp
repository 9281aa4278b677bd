// SPDX-License-Identifier: GPL-2.0-only
// Instructions that always exit and are quickly done.
#include <linux/kvm_para.h>
#include "host/trace.h"
#include "machine/vm.h"
#include "run/handlers.h"
#include "run/hypercall.h"

namespace kvmpp::run
{

using x86::Exception;
using x86::Gpr;

Result<After> handle_cpuid(Exit &exit)
{
	const u32 leaf = exit.eax(), subleaf = exit.ecx();
	const x86::CpuidRegisters result = exit.vcpu.cpuid.query(leaf, subleaf);
	exit.set_gpr32(Gpr::rax, result.eax);
	exit.set_gpr32(Gpr::rbx, result.ebx);
	exit.set_gpr32(Gpr::rcx, result.ecx);
	exit.set_gpr32(Gpr::rdx, result.edx);
	KVMPP_TRACE(cpuid, exit.vcpu.id, leaf, subleaf, &result.eax);
	return exit.complete();
}

Result<After> halt(Vcpu &vcpu)
{
	vcpu.statistics.add(machine::VcpuCounter::halts);
	if (vcpu.lapic) {
		vcpu.mp_state = machine::MpState::halted;
		return After::reenter;
	}
	vcpu.run().exit_reason = KVM_EXIT_HLT;
	return After::exit_to_user;
}

Result<After> handle_hlt(Exit &exit)
{
	exit.complete();
	return halt(exit.vcpu);
}

Result<After> handle_vmcall(Exit &exit)
{
	hypercall(exit.vcpu, exit.vmcs);
	return exit.complete();
}

Result<After> handle_pause(Exit &exit)
{
	// A guest that spins waits for somebody who may need this CPU.
	kvmpp_cond_resched();
	return exit.complete();
}

// Caches are coherent and MONITOR is not offered, where it behaves as a NOP like KVM's.
Result<After> handle_nop(Exit &exit)
{
	return exit.complete();
}

Result<After> handle_undefined(Exit &exit)
{
	return exit.raise(Exception::ud());
}

// No counters are offered.
Result<After> handle_rdpmc(Exit &exit)
{
	return exit.raise(Exception::gp());
}

Result<After> handle_xsetbv(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const u64 value = exit.edx_eax();
	if (exit.cpl() != 0 || exit.ecx() != 0 || !x86::xcr0_valid(value, vcpu.cpuid.xcr0_allowed()))
		return exit.raise(Exception::gp());
	vcpu.set_xcr0(value);
	return exit.complete();
}

} // namespace kvmpp::run
