// SPDX-License-Identifier: GPL-2.0-only
// The vCPU on a CPU for as long as this lives: its VMCS can be read.
#pragma once

#include "machine/residency.h"

namespace kvmpp::run
{

class Resident {
    public:
	Resident(Resident &&other)
		: vmcs{other.vmcs}, residency_{std::exchange(other.residency_, nullptr)}
	{
	}
	~Resident()
	{
		if (residency_)
			residency_->put();
	}

	// EBUSY, EIO: see Residency::load().
	static Result<Resident> on(machine::Residency &residency)
	{
		return Resident{TRY(residency.load()), residency};
	}

	const vmx::Current vmcs;

    private:
	Resident(vmx::Current current, machine::Residency &residency)
		: vmcs{current}, residency_{&residency}
	{
	}

	machine::Residency *residency_;
};

} // namespace kvmpp::run
