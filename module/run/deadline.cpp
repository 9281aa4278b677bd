// SPDX-License-Identifier: GPL-2.0-only
#include "run/deadline.h"

#include <algorithm>

namespace kvmpp::run
{

void set_preemption_timer(Vcpu &vcpu, vmx::Current vmcs, u64 deadline)
{
	const u64 now = vcpu.tsc.now();
	u64 steps = 0;
	// Two more, so that it is never early: the first may be over at once, and the last one has to end.
	if (deadline > now)
		steps = (vcpu.tsc.host_ticks(deadline - now) >>
				vcpu.vm.hypervisor.engine().capabilities().preemption_timer_shift()) + 2;
	vmcs.write(vmx::field::preemption_timer, static_cast<u32>(std::min<u64>(steps, ~u32{0})));
}

} // namespace kvmpp::run
