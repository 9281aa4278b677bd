// SPDX-License-Identifier: GPL-2.0-only
// RDMSR and WRMSR, here or by the VMM (KVM_CAP_X86_USER_SPACE_MSR).
#include "host/trace.h"
#include "machine/vm.h"
#include "run/handlers.h"
#include "run/msrs.h"

namespace kvmpp::run
{
namespace
{

using machine::IoState;

bool allowed(Exit &exit, u32 kind)
{
	return exit.vcpu.vm.allows_msr(exit.vcpu, exit.ecx(), kind);
}

// Why there is no such access, as KVM_MSR_EXIT_REASON_*.
u32 reason_for_refusal(Exit &exit, u32 kind)
{
	if (!allowed(exit, kind))
		return KVM_MSR_EXIT_REASON_FILTER;
	return knows_msr(exit.vcpu, exit.vmcs, exit.ecx()) ? KVM_MSR_EXIT_REASON_INVAL
							   : KVM_MSR_EXIT_REASON_UNKNOWN;
}

// #GP, unless the VMM wants to have a say.
After refuse(Exit &exit, u32 kind, u32 exit_reason, IoState::Waiting waiting, u64 value)
{
	Vcpu &vcpu = exit.vcpu;
	const u32 reason = reason_for_refusal(exit, kind);
	KVMPP_TRACE(msr, vcpu.id, kind == KVM_MSR_FILTER_WRITE, exit.ecx(), value, true);
	if (!(vcpu.vm.options().user_msr_reasons & reason))
		return exit.raise(x86::Exception::gp());
	kvm_run &run = vcpu.run();
	run.exit_reason = exit_reason;
	run.msr.error = 0;
	__builtin_memset(run.msr.pad, 0, sizeof(run.msr.pad));
	run.msr.reason = reason;
	run.msr.index = exit.ecx();
	run.msr.data = value;
	vcpu.io.waiting = waiting;
	vcpu.io.rip = exit.rip();
	vcpu.io.instruction_length = static_cast<u8>(exit.instruction_length());
	return After::exit_to_user;
}

} // namespace

bool answer_msr_read(Exit &exit)
{
	if (!allowed(exit, KVM_MSR_FILTER_READ)) [[unlikely]]
		return false;
	const auto value = read_msr(exit.vcpu, exit.vmcs, exit.ecx(), By::guest);
	if (!value) [[unlikely]]
		return false;
	KVMPP_TRACE(msr, exit.vcpu.id, false, exit.ecx(), *value, false);
	exit.set_gpr32(x86::Gpr::rax, *value);
	exit.set_gpr32(x86::Gpr::rdx, *value >> 32);
	exit.complete();
	return true;
}

bool answer_msr_write(Exit &exit)
{
	const u64 value = exit.edx_eax();
	if (!allowed(exit, KVM_MSR_FILTER_WRITE)) [[unlikely]]
		return false;
	if (!write_msr(exit.vcpu, exit.vmcs, exit.ecx(), value, By::guest)) [[unlikely]]
		return false;
	KVMPP_TRACE(msr, exit.vcpu.id, true, exit.ecx(), value, false);
	exit.complete();
	return true;
}

Result<After> handle_msr_read(Exit &exit)
{
	if (answer_msr_read(exit))
		return After::reenter;
	return refuse(exit, KVM_MSR_FILTER_READ, KVM_EXIT_X86_RDMSR, IoState::Waiting::msr_read, 0);
}

Result<After> handle_msr_write(Exit &exit)
{
	if (answer_msr_write(exit))
		return After::reenter;
	return refuse(exit, KVM_MSR_FILTER_WRITE, KVM_EXIT_X86_WRMSR, IoState::Waiting::msr_write,
		exit.edx_eax());
}

After complete_msr(Vcpu &vcpu, vmx::Current vmcs, IoState::Waiting waiting)
{
	const auto answer = vcpu.run().msr; // the VMM may change it at any time
	if (answer.error) {
		vcpu.events.raise(x86::Exception::gp());
		return After::reenter;
	}
	if (waiting == IoState::Waiting::msr_read) {
		vcpu.gpr(x86::Gpr::rax) = static_cast<u32>(answer.data);
		vcpu.gpr(x86::Gpr::rdx) = answer.data >> 32;
	}
	pass_instruction(vcpu, vmcs, vcpu.io.instruction_length);
	return After::reenter;
}

} // namespace kvmpp::run
