// SPDX-License-Identifier: GPL-2.0-only
// IA32_TSC_DEADLINE on the VMX-preemption timer (SDM vol. 3, 25.5.1): while the guest runs no timer of the
// host's is set for it, which costs more than the rest of the exit.
#pragma once

#include <algorithm>
#include "machine/vm.h"
#include "run/exit.h"

namespace kvmpp::run
{

// Right before an entry, interrupts off.
inline void watch_deadline(Vcpu &vcpu, vmx::Current vmcs)
{
	const u64 deadline = vcpu.lapic ? vcpu.lapic->watched_deadline() : 0;
	vcpu.pin_controls.set_bits(vmcs, vmx::pin::preemption_timer, deadline);
	if (!deadline)
		return;
	const u64 now = vcpu.tsc.now();
	u64 steps = 0;
	// Two more, so that it is never early: the first may be over at once, and the last one has to end.
	if (deadline > now)
		steps = (vcpu.tsc.host_ticks(deadline - now) >> vcpu.vm.hypervisor.engine().capabilities().preemption_timer_shift()) + 2;
	vmcs.write(vmx::field::preemption_timer, static_cast<u32>(std::min<u64>(steps, ~u32{0})));
}

// Its exit; or the timer's range was too short, and it goes on.
inline Result<After> handle_preemption_timer(Exit &exit)
{
	if (exit.vcpu.lapic)
		exit.vcpu.lapic->expire_deadline(exit.vcpu.tsc.now());
	return After::reenter;
}

// While the vCPU sleeps, the host watches.
class SleepingDeadline : host::Pinned {
    public:
	explicit SleepingDeadline(Vcpu &vcpu)
		: lapic_{vcpu.lapic && vcpu.lapic->watched_deadline() ? vcpu.lapic.get() : nullptr}
	{
		if (lapic_)
			lapic_->let_host_watch_deadline(vcpu.tsc.moment());
	}
	~SleepingDeadline()
	{
		if (lapic_)
			lapic_->let_processor_watch_deadline();
	}

    private:
	x86::Lapic *const lapic_;
};

} // namespace kvmpp::run
