// SPDX-License-Identifier: GPL-2.0-only
// Accesses to guest-physical memory that the tables do not map. SDM vol. 3, 28.2.1, table 28-7.
#include "host/trace.h"
#include "machine/vm.h"
#include "run/async_fault.h"
#include "run/dispatch.h"
#include "run/emulation.h"
#include "run/handlers.h"

namespace kvmpp::run
{
namespace
{

struct EptQualification {
	u64 raw;

	machine::Vm::Touch how() const
	{
		using enum machine::Vm::Touch;
		return raw & (1 << 1) ? write : raw & (1 << 2) ? fetch : read;
	}
	bool nmi_unblocked_by_iret() const { return raw & (1 << 12); }
};

} // namespace

Result<After> handle_ept_violation(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const EptQualification access{exit.qualification()};
	if (access.nmi_unblocked_by_iret())
		exit.undo_nmi_unblocking();

	using Fault = machine::Vm::Fault;
	const Gpa address = exit.guest_physical();
	vcpu.statistics.add(machine::VcpuCounter::page_faults);
	KVMPP_TRACE(page_fault, vcpu.id, exit.rip(), address.value, access.raw);
	{
		machine::ReadSection section{vcpu.reader};
		const bool wait = !can_go_on_without(vcpu, exit.vmcs);
		Fault fault = TRY(vcpu.vm.handle_fault(vcpu, section, address, access.how(), wait));
		if (fault == Fault::would_wait) [[unlikely]] {
			if (go_on_without(vcpu, section, address, access.how()))
				return After::reenter;
			fault = TRY(vcpu.vm.handle_fault(vcpu, section, address, access.how(), true));
		}
		if (fault != Fault::no_memory_there)
			return After::reenter;
	}

	// A device. An event whose delivery touches one cannot be had by executing an instruction.
	if (vcpu.events.begun) {
		const u64 data[] = {vcpu.events.begun->info.raw, exit.reason.raw, access.raw, address.value};
		return internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, data);
	}
	return emulate(vcpu, exit.vmcs);
}

// No entry of ours is misconfigured; if one is, memory is broken.
Result<After> handle_ept_misconfiguration(Exit &exit)
{
	const u64 data[] = {exit.reason.raw, exit.guest_physical().value};
	return internal_error(exit.vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data);
}

} // namespace kvmpp::run
