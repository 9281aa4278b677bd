// SPDX-License-Identifier: GPL-2.0-only
// Guests that burden the machine as a whole, of which the VMM hears (KVM_CAP_X86_BUS_LOCK_EXIT,
// KVM_CAP_X86_NOTIFY_VMEXIT).
#include "machine/vm.h"
#include "run/handlers.h"

namespace kvmpp::run
{

// SDM vol. 3, 25.6.2 and table 28-7.
Result<After> handle_notify(Exit &exit)
{
	constexpr u64 context_invalid = 1 << 0, nmi_unblocked_by_iret = 1 << 12;
	Vcpu &vcpu = exit.vcpu;
	const u64 qualification = exit.qualification();
	if (qualification & nmi_unblocked_by_iret)
		exit.undo_nmi_unblocking();
	const bool invalid = qualification & context_invalid;
	if (!invalid && !vcpu.vm.options().notifies_vmm)
		return After::reenter;
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_NOTIFY;
	run.notify.flags = invalid ? KVM_NOTIFY_CONTEXT_INVALID : 0;
	return After::exit_to_user;
}

After report_bus_lock(Vcpu &vcpu, After after)
{
	// What it has exited for otherwise goes to the VMM as ever, with a flag.
	vcpu.bus_locked = true;
	if (after == After::reenter)
		vcpu.run().exit_reason = KVM_EXIT_X86_BUS_LOCK;
	return After::exit_to_user;
}

} // namespace kvmpp::run
