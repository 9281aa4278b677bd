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

// Why an access is refused, as KVM_MSR_EXIT_REASON_*; 0 is a success.
template <class Access>
u32 attempt(Vcpu &vcpu, vmx::Current vmcs, u32 index, u32 kind, Access &&access)
{
	if (!vcpu.vm.allows_msr(vcpu, index, kind)) [[unlikely]]
		return KVM_MSR_EXIT_REASON_FILTER;
	if (access()) [[likely]]
		return 0;
	return knows_msr(vcpu, vmcs, index) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
}

// #GP, unless the VMM wants to have a say.
After refuse(Exit &exit, u32 reason, u32 exit_reason, IoState::Waiting waiting, u64 value)
{
	Vcpu &vcpu = exit.vcpu;
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

Result<After> handle_msr_read(Exit &exit)
{
	std::optional<u64> value;
	const u32 refused = attempt(exit.vcpu, exit.vmcs, exit.ecx(), KVM_MSR_FILTER_READ, [&] {
		value = read_msr(exit.vcpu, exit.vmcs, exit.ecx(), By::guest);
		return value.has_value();
	});
	KVMPP_TRACE(msr, exit.vcpu.id, false, exit.ecx(), value.value_or(0), !value);
	if (refused)
		return refuse(exit, refused, KVM_EXIT_X86_RDMSR, IoState::Waiting::msr_read, 0);
	exit.set_gpr32(x86::Gpr::rax, *value);
	exit.set_gpr32(x86::Gpr::rdx, *value >> 32);
	return exit.complete();
}

Result<After> handle_msr_write(Exit &exit)
{
	const u64 value = exit.edx_eax();
	const u32 refused = attempt(exit.vcpu, exit.vmcs, exit.ecx(), KVM_MSR_FILTER_WRITE,
		[&] { return write_msr(exit.vcpu, exit.vmcs, exit.ecx(), value, By::guest); });
	KVMPP_TRACE(msr, exit.vcpu.id, true, exit.ecx(), value, refused != 0);
	if (refused)
		return refuse(exit, refused, KVM_EXIT_X86_WRMSR, IoState::Waiting::msr_write, value);
	return exit.complete();
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
