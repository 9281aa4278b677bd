// SPDX-License-Identifier: GPL-2.0-only
// VT-x of this machine: found fit at start, and the owner of every CPU's "current VMCS". It is on from
// the first VM to the last, or, where others are to have their turn, on the CPUs that hold a VMCS.
#pragma once

#include <expected>
#include "host/lock.h"
#include "host/memory.h"
#include "vmx/capabilities.h"
#include "vmx/l1d_flush.h"
#include "vmx/vmcs.h"

namespace kvmpp::vmx
{

// Whether VT-x is ours while there are VMs, or taken for each ioctl that needs a vCPU's VMCS.
enum class Sharing : u8 { exclusive, on_demand };

class Engine : host::Pinned {
    public:
	// Checks every CPU. Errors: EOPNOTSUPP when one is not fit or not like the others (what is
	// missing, and on which CPU, goes to the log), ENOMEM. May sleep.
	static Result<host::Own<Engine>> create(Sharing sharing);

	const Capabilities &capabilities() const { return capabilities_; }
	const Controls &controls() const { return controls_; }
	bool on_demand() const { return sharing_ == Sharing::on_demand; }

	// A VM begins and ends. The first one takes VT-x on every CPU unless it is taken on demand:
	// EBUSY, and nothing has changed, while another hypervisor holds it on any; EIO: the machine goes
	// down. May sleep.
	Result<> acquire();
	void release();

	// A CPU comes up or is about to go down; on that CPU, process context. EBUSY, EOPNOTSUPP: it
	// cannot run guests, so it must not come up.
	Result<> cpu_online();
	void cpu_offline();

	// The machine goes down: off everywhere, whatever VMs there are, for good.
	void shut_down();
	// The same on this CPU alone after a crash: any context, no locks.
	void emergency_off();

	// A cleared VMCS near the given NUMA node.
	Result<host::Own<Vmcs>> create_vmcs(int node);
	// Gives up what the processor may cache of it. Process context, before its memory is freed.
	void retire(Vmcs &vmcs);

	// Makes it current on this CPU, taking it from another if need be. Preemption off, interrupts
	// on. EBUSY: another hypervisor has VT-x here; EIO: the machine goes down, or VT-x was taken away.
	struct Loaded {
		Current vmcs;
		bool moved;	  // it was not on this CPU before, which may hold stale translations
		bool was_current; // nothing had to be done
	};
	Result<Loaded> load(Vmcs &vmcs);
	// Its vCPU's ioctl ends. Preemption off.
	void unload(Vmcs &vmcs);

	// The token for a VMCS that load() made current and that preemption notifiers keep so.
	Current current(const Vmcs &) const { return Current{}; }

	// The host's speculation mitigations (kvmpp_mitigation bits) as they were at start.
	u32 mitigations() const { return mitigations_; }
	L1dFlush &l1d_flush() { return l1d_flush_; }

	// Invalidates this CPU's translations. Interrupts or preemption off.
	void flush_ept(u64 ept_pointer) const;
	void flush_vpid(u16 vpid) const;

	Engine(Sharing sharing, host::Array<struct Processor> processors,
		const Capabilities &capabilities, const Controls &controls);
	~Engine();

    private:
	// Run on every CPU at once, or on one; interrupts off.
	struct Attempt;
	static void check_holder(void *attempt);
	static void switch_on(void *attempt);
	static void switch_off(void *engine);
	struct Clearing;
	static void clear_on_its_cpu(void *clearing);

	Processor &here();
	Result<> processor_on(Processor &processor);
	void processor_off(Processor &processor);
	Result<> switch_all_on();
	Result<> take_turn(Processor &processor);
	void clear(Vmcs &vmcs);
	void clear_anywhere(Vmcs &vmcs);

	const Sharing sharing_;
	const Capabilities capabilities_;
	const Controls controls_;
	const u32 mitigations_ = kvmpp_mitigations();
	L1dFlush l1d_flush_;
	host::Array<Processor> processors_;
	host::Mutex users_lock_{host::LockClass::vtx_users}; // taken before CPU hotplug is held off
	unsigned users_ = 0;
	bool stopped_ = false; // shut down; written with all CPUs told
};

// What VT-x needs of one CPU. Touched on that CPU only, interrupts or preemption off.
struct Processor {
	host::Page vmxon_region{};
	Engine *engine = nullptr;
	Vmcs *current = nullptr;
	Vmcs *loaded = nullptr; // list of all that this CPU may cache parts of
	bool on = false;
};

} // namespace kvmpp::vmx
