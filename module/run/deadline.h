// SPDX-License-Identifier: GPL-2.0-only
// IA32_TSC_DEADLINE on the VMX-preemption timer (SDM vol. 3, 25.5.1): while the guest runs no timer of the
// host's is set for it, which costs more than the rest of the exit.
#pragma once

#include "machine/vm.h"
#include "run/exit.h"

namespace kvmpp::run
{

void set_preemption_timer(Vcpu &vcpu, vmx::Current vmcs, u64 deadline);

// Right before an entry, interrupts off.
inline void watch_deadline(Vcpu &vcpu, vmx::Current vmcs)
{
	const u64 deadline = vcpu.lapic ? vcpu.lapic->watched_deadline() : 0;
	vcpu.pin_controls.set_bits(vmcs, vmx::pin::preemption_timer, deadline);
	if (deadline)
		set_preemption_timer(vcpu, vmcs, deadline);
}

// Delivers the timer's interrupt if the deadline has come: for the timer's exit, which comes early where its
// range is too short, and for loops without an entry, in which no processor watches.
inline void look_at_deadline(Vcpu &vcpu)
{
	if (vcpu.lapic && vcpu.lapic->watched_deadline())
		vcpu.lapic->expire_deadline(vcpu.tsc.now());
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
