// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's stay on a physical CPU. From load() to put() its VMCS is current wherever its thread runs,
// preemption or not; and from the first entry on, until the thread leaves the CPU, the MSRs and
// segments that a VMCS does not switch are the guest's.
#pragma once

#include <atomic>
#include "host/lock.h"
#include "host/seam.h"
#include "vmx/engine.h"
#include "x86/devices/callback.h"

namespace kvmpp::machine
{

// MSRs that only user mode needs back, by their slots in the host's list.
struct UserReturnSlots {
	int star = -1, lstar = -1, syscall_mask = -1, tsc_aux = -1;
	void find();
};

// What the CPU holds of the guest between entries.
struct ResidentMsrs {
	u64 star = 0, lstar = 0, syscall_mask = 0, kernel_gs_base = 0, tsc_aux = 0;
};

class Residency : host::Pinned {
    public:
	// switched_out() is called whenever the thread leaves its CPU between load() and put(), with
	// preemption off.
	Residency(vmx::Engine &engine, const UserReturnSlots &slots, host::Own<vmx::Vmcs> vmcs,
		x86::Callback<void()> switched_out)
		: engine_{engine}, slots_{slots}, vmcs_{std::move(vmcs)}, switched_out_{switched_out}
	{
	}
	~Residency() { engine_.retire(*vmcs_); }

	vmx::World &world() { return vmcs_->world; }
	const vmx::World &world() const { return vmcs_->world; }

	// The vCPU's thread, between ioctl entry and return; they do not nest. EBUSY: another
	// hypervisor has VT-x on this CPU; EIO: the machine goes down.
	Result<vmx::Current> load();
	void put();
	// A wait of unknown length in between: where VT-x is taken on demand others may have it
	// meanwhile, and the VMCS cannot be accessed. After resume() has failed, as load(), the stay
	// is over.
	void pause();
	Result<> resume();
	// Whether the VMCS has been current all the time: the thread may have come to a CPU where it
	// could not be. Then the vCPU is lost.
	Result<> status() const { return result_of(lost_); }
	bool lost() const { return lost_; }

	// Interrupts off, before an entry. Cheap when there is nothing to do.
	void prepare(vmx::Current vmcs)
	{
		if (!guest_msrs_loaded_) [[unlikely]]
			load_guest_msrs(vmcs);
	}
	// Between load() and put() the thread has lost its CPU. Any thread.
	bool away() const { return away_.load(std::memory_order_relaxed); }
	// True once for each time that the CPU may hold stale translations of this guest.
	bool moved() const { return moved_; }
	bool take_moved() { return std::exchange(moved_, false); }

	// The guest's values; a change takes effect at the next entry.
	const ResidentMsrs &msrs();
	void set_msrs(const ResidentMsrs &values);

	// What the host had in registers that a VM exit clears.
	u64 host_debugctl() const { return host_debugctl_; }

    private:
	friend void ::kvmpp_switched_in(void *owner, unsigned int cpu);
	friend void ::kvmpp_switched_out(void *owner);

	Result<> arrive();
	void unload_guest();
	void write_host_state(vmx::Current vmcs);
	void load_guest_msrs(vmx::Current vmcs);

	vmx::Engine &engine_;
	const UserReturnSlots &slots_;
	host::Own<vmx::Vmcs> vmcs_;
	const x86::Callback<void()> switched_out_;
	ResidentMsrs guest_{};
	bool loaded_ = false; // from load() to put()
	bool guest_msrs_loaded_ = false;
	bool moved_ = true;
	std::atomic<bool> away_{false};
	int lost_ = 0; // negative errno
	unsigned host_cpu_ = ~0u; // whose addresses the host-state area holds
	u64 host_debugctl_ = 0;
	kvmpp_user_segments user_segments_{};
	u64 written_fs_base_ = ~u64{0};
	kvmpp_switch_watch switch_watch_;
};

} // namespace kvmpp::machine
