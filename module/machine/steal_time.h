// SPDX-License-Identifier: GPL-2.0-only
// What a guest is told of its processor's absence: how long others had the CPU (steal time), and that
// it does not run just now, so that nobody spins for it or waits for it to flush its TLB. KVM's
// paravirtual MSR_KVM_STEAL_TIME. Belongs to the vCPU's thread.
#pragma once

#include "machine/guest_memory.h"

namespace kvmpp::machine
{

class StealTime {
    public:
	bool enabled() const { return msr_ & 1; }
	u64 msr() const { return msr_; }
	// delay: how long the thread has waited for a CPU so far. False: reserved bits are set.
	bool set_msr(u64 value, u64 delay);

	bool outdated(u64 delay) const { return delay != delay_; }
	// The thread leaves its CPU while its guest is between two instructions. Preemption is off.
	void leave(const GuestMemory &memory);
	// Before the guest runs again. True: somebody relied on its translations being flushed first.
	bool come_back(const GuestMemory &memory, u64 delay);

    private:
	Gpa place() const;
	bool take_mark(const GuestMemory &memory);

	u64 msr_ = 0;	// a guest-physical address with bit 0 as enable
	u64 delay_ = 0; // as told
	bool marked_ = false;
};

} // namespace kvmpp::machine
