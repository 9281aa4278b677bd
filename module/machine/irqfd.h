// SPDX-License-Identifier: GPL-2.0-only
// Eventfds that raise a GSI when they are signalled. KVM API, KVM_IRQFD.
#pragma once

#include <linux/kvm.h>
#include "machine/interrupts.h"

namespace kvmpp::machine
{

class IrqFds : host::Pinned {
    public:
	explicit IrqFds(Interrupts &interrupts) : interrupts_{interrupts} {}
	~IrqFds() { remove_all(); }

	// EAGAIN: no local APICs yet; EINVAL; EBUSY: the eventfd raises something already; EBADF and
	// what else its look-up gives; ENOMEM. May sleep.
	Result<> assign(const kvm_irqfd &request);
	void remove_all();
	// What is not assigned needs no deassigning.
	Result<> deassign(const kvm_irqfd &request);

    private:
	class Entry;

	void hung_up(Entry &entry);

	Interrupts &interrupts_;
	host::Mutex lock_{host::LockClass::irqfds};
	Entry *first_ = nullptr;
};

} // namespace kvmpp::machine
