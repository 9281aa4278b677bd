// SPDX-License-Identifier: GPL-2.0-only
#include "run/world_switch.h"

namespace kvmpp::run
{

// The CPU counts as the guest's inside: no tracing, no RCU.
KVMPP_NOINSTR int switch_worlds(vmx::World *world, u64 *cr2, bool again)
{
	const bool tracked = kvmpp_guest_tracked;
	if (!again)
		kvmpp_guest_begin();
	else if (tracked)
		kvmpp_guest_again();
	if (vmx::instruction::read_cr2() != *cr2)
		vmx::instruction::write_cr2(*cr2);
	const int failed = kvmpp_world_switch(world);
	*cr2 = vmx::instruction::read_cr2();
	if (tracked)
		kvmpp_guest_end();
	return failed;
}

void DebugRegistersSwitched::load() const
{
	if (debugged_)
		kvmpp_debug_registers_write(
			vcpu_.debugger.address.data(), machine::DebugRegisters::dr6_fixed);
	else
		kvmpp_debug_registers_write(vcpu_.debug.address.data(), vcpu_.debug.dr6);
}

} // namespace kvmpp::run
