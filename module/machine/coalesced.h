// SPDX-License-Identifier: GPL-2.0-only
// Guest writes that are written down for the VMM instead of exiting to it.
// KVM API, KVM_REGISTER_COALESCED_MMIO.
#pragma once

#include <linux/kvm.h>
#include "machine/io_bus.h"

namespace kvmpp::machine
{

// One ring for all zones of a VM, in a page that every vCPU's mmap shows.
class CoalescedWrites : host::Pinned {
    public:
	CoalescedWrites(IoBus &ports, IoBus &mmio, host::Page ring);
	~CoalescedWrites();

	// EINVAL; ENOSPC, ENOMEM. May sleep.
	Result<> add(const kvm_coalesced_mmio_zone &zone);
	// Removes every zone that holds this one.
	Result<> remove(const kvm_coalesced_mmio_zone &zone);

	void *page() const { return ring_.data(); }

    private:
	class Zone;

	bool append(u64 address, std::span<const u8> data, bool port);
	IoBus &bus_of(bool port) { return port ? ports_ : mmio_; }

	IoBus &ports_, &mmio_;
	const host::Page ring_;
	host::SpinLock ring_lock_{host::LockClass::coalesced_ring}; // its writers; the VMM reads as it likes
	host::Mutex lock_{host::LockClass::coalesced_zones};
	Zone *first_ = nullptr;
};

} // namespace kvmpp::machine
