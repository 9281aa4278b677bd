// SPDX-License-Identifier: GPL-2.0-only
// What kvmpp found at start and every VM of it shares.
#pragma once

#include <atomic>
#include "host/lock.h"
#include "host/memory.h"
#include "machine/residency.h"
#include "vmx/engine.h"
#include "x86/cpuid.h"

namespace kvmpp::machine
{

class Hypervisor : host::Pinned {
    public:
	// EOPNOTSUPP: this machine is not fit, with the reason in the log; ENOMEM.
	static Result<host::Own<Hypervisor>> create(vmx::Sharing sharing);

	vmx::Engine &engine() { return *engine_; }
	const UserReturnSlots &user_return() const { return user_return_; }
	x86::CpuidHost cpuid_host() const;
	// IA32_ARCH_CAPABILITIES for guests: what the processor is immune to, as it says itself.
	u64 arch_capabilities() const { return arch_capabilities_; }
	// CR4 with every feature that a guest can have.
	u64 cr4_supported() const { return cr4_supported_; }
	// Whether a guest's TSC can have another rate than the host's.
	bool scales_tsc() const { return engine_->controls().secondary & vmx::secondary::tsc_scaling; }
	// Whether the processor runs guests in real mode and without paging.
	bool unrestricted() const { return engine_->controls().secondary & vmx::secondary::unrestricted_guest; }
	// Whether it reports guests that lock the bus, or that keep interrupts out for long.
	bool detects_bus_locks() const
	{
		return engine_->controls().secondary & vmx::secondary::bus_lock_detection;
	}
	bool notifies() const { return engine_->controls().secondary & vmx::secondary::notify_exiting; }
	// Whether the processor logs the pages that guests write.
	bool logs_pages() const { return engine_->controls().secondary & vmx::secondary::pml; }
	u64 host_xcr0() const { return host_xcr0_; }
	// VPIDs: 0 means the vCPU runs without one of its own.
	u16 take_vpid();
	void give_vpid(u16 vpid);

	// Tells the world of VMs that come and go.
	u64 vm_created(); // how many there have been
	void vm_destroyed(s32 creator);

	explicit Hypervisor(host::Own<vmx::Engine> engine) : engine_{std::move(engine)} {}

    private:
	static constexpr unsigned vpid_count = 1 << 12;
	struct Vpids {
		std::array<u64, vpid_count / 64> taken{1}; // 0 is the host
	};
	struct Count {
		u64 live = 0, total = 0;
	};

	host::Own<vmx::Engine> engine_;
	u64 arch_capabilities_ = 0, cr4_supported_ = 0;
	const u64 host_xcr0_ = kvmpp_fpu_xcr0();
	UserReturnSlots user_return_;
	host::Locked<Vpids, host::LockClass::vpids, host::SpinLock> vpids_;
	host::Locked<Count, host::LockClass::vm_count> count_;
};

} // namespace kvmpp::machine
