// SPDX-License-Identifier: GPL-2.0-only
// Guest writes that signal an eventfd instead of going to the VMM. KVM API, KVM_IOEVENTFD.
#pragma once

#include <linux/kvm.h>
#include "machine/io_bus.h"

namespace kvmpp::machine
{

class Vm;

class IoEventFds : host::Pinned {
    public:
	IoEventFds(IoBus &ports, IoBus &mmio) : ports_{ports}, mmio_{mmio} {}
	~IoEventFds();

	// EINVAL, EEXIST, ENOENT (deassign), EBADF and what else the descriptor's look-up gives,
	// ENOSPC, ENOMEM. May sleep.
	Result<> assign(const kvm_ioeventfd &request);
	Result<> deassign(const kvm_ioeventfd &request);

    private:
	class Entry;

	static Result<> check(const kvm_ioeventfd &request);
	IoBus &bus_of(const kvm_ioeventfd &request);

	IoBus &ports_, &mmio_;
	host::Mutex lock_{host::LockClass::ioeventfds};
	Entry *first_ = nullptr;
};

} // namespace kvmpp::machine
