// SPDX-License-Identifier: GPL-2.0-only
// The innermost step of KVM_RUN: everything between "interrupts off" and "the guest has exited".
#pragma once

#include "machine/vm.h"
#include "vmx/instructions.h"
#include "x86/msr.h"

namespace kvmpp::run
{

// Breakpoints of the guest go into the processor only while some are enabled; DR7 is switched by
// the VMCS.
class DebugRegistersSwitched : host::Pinned {
    public:
	explicit DebugRegistersSwitched(machine::Vcpu &vcpu)
		: vcpu_{vcpu}, debugged_{vcpu.debugger.has_breakpoints()},
		  guests_{!debugged_ && (vcpu.state.dr7() & enabled) != 0}
	{
		if (debugged_ || guests_) [[unlikely]]
			load();
	}
	~DebugRegistersSwitched()
	{
		if (guests_) [[unlikely]]
			vcpu_.debug.dr6 = kvmpp_dr6_read();
		if (kvmpp_debug_registers_active()) [[unlikely]]
			kvmpp_debug_registers_restore();
	}

    private:
	static constexpr u64 enabled = 0xff; // in DR7

	void load() const;

	machine::Vcpu &vcpu_;
	const bool debugged_, guests_;
};

// XCR0 must be the host's whenever an interrupt may save extended state.
class Xcr0Switched : host::Pinned {
    public:
	explicit Xcr0Switched(const machine::Vcpu &vcpu)
		: host_{vcpu.vm.hypervisor.host_xcr0()}, differs_{vcpu.switches_xcr0()}
	{
		if (differs_)
			kvmpp_xcr0_write(vcpu.xcr0);
	}
	~Xcr0Switched()
	{
		if (differs_)
			kvmpp_xcr0_write(host_);
	}

    private:
	const u64 host_;
	const bool differs_;
};

// Enters the guest and comes back when it exits; 1: the processor refused to enter. `again`: interrupts have
// been off since the last time.
int switch_worlds(vmx::World *world, u64 *cr2, bool again);

// A time with interrupts off in which the guest is entered once or several times: what an exit leaves as it
// was is switched at its ends only.
class Stretch : host::Pinned {
    public:
	Stretch(machine::Vcpu &vcpu, vmx::Current vmcs) : vcpu_{vcpu}, xcr0_{vcpu}, debug_{vcpu}
	{
		vcpu.residency.prepare(vmcs);
		// Both change behind our back: with the address space's ID on this CPU, and with calls that
		// set a feature on all CPUs.
		vcpu.host_cr3.set(vmcs, vmx::instruction::read_cr3());
		vcpu.host_cr4.set(vmcs, vmx::instruction::read_cr4());
	}
	~Stretch()
	{
		if (engine().mitigations() & KVMPP_IBPB_ON_USER_EXIT)
			kvmpp_branch_barrier_on_user_exit();
		if (vcpu_.residency.host_debugctl()) [[unlikely]]
			kvmpp_msr_write(x86::msr::debugctl, vcpu_.residency.host_debugctl());
	}

	// The VMCS is complete but for what differs at every entry. False: VMLAUNCH or VMRESUME failed, and the
	// guest did not run.
	bool enter()
	{
		engine().l1d_flush().before_entry(vcpu_.l1d_unsafe);
		return !switch_worlds(
			&vcpu_.residency.world(), &vcpu_.cr2, std::exchange(entered_, true));
	}

    private:
	vmx::Engine &engine() const { return vcpu_.vm.hypervisor.engine(); }

	machine::Vcpu &vcpu_;
	const Xcr0Switched xcr0_;
	const DebugRegistersSwitched debug_;
	bool entered_ = false;
};

} // namespace kvmpp::run
