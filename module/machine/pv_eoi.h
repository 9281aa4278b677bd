// SPDX-License-Identifier: GPL-2.0-only
// A bit in guest memory by which a guest may end its interrupt without an exit: set by us while nobody
// wants to know of that end, cleared by the guest instead of writing EOI. KVM's paravirtual
// MSR_KVM_PV_EOI_EN. Belongs to the vCPU's thread; may sleep.
#pragma once

#include <asm/kvm_para.h>
#include "machine/guest_memory.h"

namespace kvmpp::machine
{

class PvEoi {
    public:
	bool enabled() const { return msr_ & KVM_MSR_ENABLED; }
	u64 msr() const { return msr_; }
	// A guest-physical address with bit 0 as enable. False: it is not aligned to four bytes.
	bool set_msr(u64 value)
	{
		if (value & ~u64{KVM_MSR_ENABLED} & 3)
			return false;
		msr_ = value;
		return true;
	}

	bool offered() const { return offered_; }
	// Before an entry.
	void offer(const GuestMemory &memory)
	{
		const u8 bit = KVM_PV_EOI_ENABLED;
		offered_ = memory.write(place(), &bit, sizeof(bit)).has_value();
	}
	// After the exit, what was offered: whether the guest has ended its interrupt by it. If not, it
	// has to write EOI.
	bool take(const GuestMemory &memory)
	{
		offered_ = false;
		const auto bits = memory.read<u8>(place());
		if (!bits)
			return false;
		if (!(*bits & KVM_PV_EOI_ENABLED))
			return true;
		const u8 cleared = *bits & ~KVM_PV_EOI_ENABLED;
		(void)memory.write(place(), &cleared, sizeof(cleared)).has_value();
		return false;
	}

    private:
	Gpa place() const { return Gpa{msr_ & ~u64{KVM_MSR_ENABLED}}; }

	u64 msr_ = 0;
	bool offered_ = false;
};

} // namespace kvmpp::machine
