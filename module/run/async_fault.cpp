// SPDX-License-Identifier: GPL-2.0-only
#include "run/async_fault.h"

#include "run/injection.h"

namespace kvmpp::run
{

bool can_go_on_without(Vcpu &vcpu, vmx::Current vmcs)
{
	const auto &faults = vcpu.async_faults;
	if (!faults.enabled()) [[likely]]
		return false;
	// A guest without paging has no handler of #PF. One that has its interrupts off could not be told of
	// the page, and an event that is being delivered has to come first.
	const auto &events = vcpu.events;
	return !vcpu.smm.active && !events.begun && !events.exception && !events.next &&
	       vcpu.state.cr0(vmcs) & X86_CR0_PG && interrupts_allowed(vcpu, vmcs) &&
	       (faults.in_kernel_mode() || vcpu.state.cpl(vmcs) > 0);
}

bool go_on_without(Vcpu &vcpu, const machine::ReadSection &section, Gpa address, machine::Vm::Touch how)
{
	const auto *slot =
		vcpu.vm.memory_map.read(section, vcpu.memory.space()).find(frame_of(address));
	if (!slot)
		return false;
	const auto token = vcpu.async_faults.start(vcpu.paravirtual_memory, slot->hva_of(address.page()),
		how == machine::Vm::Touch::write);
	if (!token)
		return false;
	vcpu.statistics.add(machine::VcpuCounter::async_page_faults);
	vcpu.events.raise(x86::Exception::page_fault(*token, 0));
	return true;
}

void report_page(Vcpu &vcpu)
{
	if (!vcpu.async_faults.enabled())
		return;
	// One that is switched off would lose the interrupt.
	const x86::Identity apic = vcpu.lapic->identity();
	if (!apic.hardware_enabled || !apic.software_enabled ||
		!vcpu.async_faults.report(vcpu.paravirtual_memory))
		return;
	vcpu.statistics.add(machine::VcpuCounter::async_pages_ready);
	vcpu.lapic->accept({.vector = vcpu.async_faults.vector()});
}

} // namespace kvmpp::run
