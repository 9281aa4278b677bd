// SPDX-License-Identifier: GPL-2.0-only
#include "run/wait.h"

#include "machine/vm.h"
#include "run/deadline.h"
#include "run/injection.h"

namespace kvmpp::run
{
namespace
{

using machine::MpState;
using machine::VcpuCounter;

bool something_posted(Vcpu &vcpu, vmx::Current vmcs)
{
	return vcpu.mailbox.requested() || (vcpu.lapic && vcpu.lapic->attention()) ||
	       (vcpu.mp_state == MpState::halted && can_wake(vcpu, vmcs));
}

// For so many ns, as long as nobody else wants this CPU. True: there is something.
bool poll(Vcpu &vcpu, vmx::Current vmcs, u64 began, u64 window)
{
	vcpu.statistics.add(VcpuCounter::halt_attempted_poll);
	while (kvmpp_alone_on_cpu() && !kvmpp_work_pending()) {
		look_at_deadline(vcpu);
		if (something_posted(vcpu, vmcs)) {
			vcpu.statistics.add(VcpuCounter::halt_successful_poll);
			return true;
		}
		if (kvmpp_monotonic_ns() - began >= window)
			break;
		kvmpp_cpu_relax();
	}
	return false;
}

Result<> sleep(Vcpu &vcpu, vmx::Current vmcs)
{
	// What something_posted() looks at is read while the VMCS is there.
	vcpu.state.rflags(vmcs);
	vcpu.state.interruptibility(vmcs);
	SleepingDeadline deadline{vcpu};
	vcpu.residency.pause();
	vcpu.between_instructions = true;
	vcpu.mailbox.sleep_until([&]() -> int { return something_posted(vcpu, vmcs); });
	vcpu.between_instructions = false;
	return vcpu.residency.resume();
}

} // namespace

Result<> wait_for_event(Vcpu &vcpu, vmx::Current vmcs)
{
	if (vcpu.mp_state != MpState::halted)
		return sleep(vcpu, vmcs);
	const auto parameters = kvmpp_halt_polling_parameters();
	// A guest that looks for work itself before it halts has said so.
	const bool guest_polls = !(vcpu.msrs.poll_control & 1);
	const u64 most = guest_polls ? 0 : vcpu.vm.halt_poll_limit().value_or(parameters.most);
	const u64 began = kvmpp_monotonic_ns(), window = vcpu.halt_polling.window(most);
	if (!window || !poll(vcpu, vmcs, began, window)) {
		TRY(sleep(vcpu, vmcs));
		vcpu.statistics.add(VcpuCounter::halt_wakeup);
	}
	if (most)
		vcpu.halt_polling.learn(kvmpp_monotonic_ns() - began, most, parameters);
	return {};
}

} // namespace kvmpp::run
