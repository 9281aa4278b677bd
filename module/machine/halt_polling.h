// SPDX-License-Identifier: GPL-2.0-only
// How long a halted vCPU's thread looks for what wakes it before it sleeps, which takes longer than the
// wait often is. Learns from each halt, by KVM's parameters (Documentation/virt/kvm/halt-polling.rst).
// Belongs to the vCPU's thread.
#pragma once

#include <algorithm>
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::machine
{

class HaltPolling {
    public:
	// ns; 0: it sleeps at once.
	u64 window(u64 most) const { return std::min(window_, most); }

	// A halt took so long, the polling included.
	void learn(u64 halted, u64 most, const kvmpp_halt_polling &parameters)
	{
		if (window_ && halted <= window_)
			return;
		if (halted > most)
			shrink(parameters);
		else
			grow(most, parameters);
	}

    private:
	void grow(u64 most, const kvmpp_halt_polling &parameters)
	{
		if (!parameters.grow)
			return;
		window_ = std::min(std::max<u64>(window_ * parameters.grow, parameters.grow_start), most);
	}
	void shrink(const kvmpp_halt_polling &parameters)
	{
		window_ = parameters.shrink ? window_ / parameters.shrink : 0;
		if (window_ < parameters.grow_start)
			window_ = 0;
	}

	u64 window_ = 0;
};

} // namespace kvmpp::machine
