// SPDX-License-Identifier: GPL-2.0-only
#include "run/world_switch.h"

#include "machine/vm.h"
#include "vmx/instructions.h"
#include "x86/msr.h"

namespace kvmpp::run
{
namespace
{

using machine::Vcpu;

// Breakpoints of the guest go into the processor only while some are enabled; DR7 is switched by
// the VMCS.
class DebugRegistersSwitched : host::Pinned {
    public:
	explicit DebugRegistersSwitched(Vcpu &vcpu)
		: vcpu_{vcpu}, debugged_{vcpu.debugger.has_breakpoints()},
		  guests_{!debugged_ && (vcpu.state.dr7() & enable_bits) != 0}
	{
		if (debugged_) [[unlikely]]
			kvmpp_debug_registers_write(vcpu.debugger.address.data(),
				machine::DebugRegisters::dr6_fixed);
		else if (guests_) [[unlikely]]
			kvmpp_debug_registers_write(vcpu.debug.address.data(), vcpu.debug.dr6);
	}
	~DebugRegistersSwitched()
	{
		if (guests_) [[unlikely]]
			vcpu_.debug.dr6 = kvmpp_dr6_read();
		if (kvmpp_debug_registers_active()) [[unlikely]]
			kvmpp_debug_registers_restore();
	}

    private:
	static constexpr u64 enable_bits = 0xff;

	Vcpu &vcpu_;
	const bool debugged_, guests_;
};

// XCR0 must be the host's whenever an interrupt may save extended state.
class Xcr0Switched : host::Pinned {
    public:
	explicit Xcr0Switched(const Vcpu &vcpu)
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

// The CPU counts as the guest's inside: no tracing, no RCU.
KVMPP_NOINSTR int switch_worlds(vmx::World *world, u64 *cr2)
{
	kvmpp_guest_begin();
	if (vmx::instruction::read_cr2() != *cr2)
		vmx::instruction::write_cr2(*cr2);
	const int failed = kvmpp_world_switch(world);
	*cr2 = vmx::instruction::read_cr2();
	kvmpp_guest_end();
	return failed;
}

} // namespace

bool enter_guest(Vcpu &vcpu, vmx::Current vmcs)
{
	auto &engine = vcpu.vm.hypervisor.engine();
	vcpu.residency.prepare(vmcs);
	// Both change behind our back: with the address space's ID on this CPU, and with calls that
	// set a feature on all CPUs.
	vcpu.host_cr3.set(vmcs, vmx::instruction::read_cr3());
	vcpu.host_cr4.set(vmcs, vmx::instruction::read_cr4());

	Xcr0Switched xcr0{vcpu};
	DebugRegistersSwitched debug{vcpu};
	engine.l1d_flush().before_entry(vcpu.l1d_unsafe);

	const int failed = switch_worlds(&vcpu.residency.world(), &vcpu.cr2);

	if (engine.mitigations() & KVMPP_IBPB_ON_USER_EXIT)
		kvmpp_branch_barrier_on_user_exit();
	if (vcpu.residency.host_debugctl()) [[unlikely]]
		kvmpp_msr_write(x86::msr::debugctl, vcpu.residency.host_debugctl());
	return !failed;
}

} // namespace kvmpp::run
