// SPDX-License-Identifier: GPL-2.0-only
#include "run/virtual_apic.h"

#include <array>
#include "machine/vm.h"
#include "run/apic_effects.h"
#include "run/dispatch.h"
#include "run/emulation.h"
#include "run/handlers.h"

namespace kvmpp::run
{
namespace
{

namespace field = vmx::field;
namespace secondary = vmx::secondary;
using machine::ApicHelp;
using x86::ApicRegister;

ApicHelp help_for(const Vcpu &vcpu)
{
	const vmx::Controls &controls = vcpu.vm.hypervisor.engine().controls();
	if (!vcpu.lapic || vcpu.vm.emulated || !(controls.primary & vmx::primary::tpr_shadow))
		return ApicHelp::none;
	// In software interrupts are injected, and a guest that changes between the two would be for ever
	// between them. Without an APIC there is only the PIC.
	const bool delivers = controls.delivers_interrupts() && !vcpu.vm.may_need_software &&
			      vcpu.lapic->identity().hardware_enabled && !vcpu.debugger.blocks_interrupts();
	return delivers ? ApicHelp::delivery : ApicHelp::task_priority;
}

u32 controls_for(const Vcpu &vcpu)
{
	const bool delivers = vcpu.apic_help == ApicHelp::delivery;
	u32 wanted = delivers ? secondary::virtual_interrupt_delivery : 0;
	if (vcpu.apic_help != ApicHelp::none && vcpu.uses_apic_access())
		wanted |= secondary::virtual_apic_accesses | secondary::apic_register_virtualization;
	else if (delivers && vcpu.lapic->x2apic_enabled())
		wanted |= secondary::virtual_x2apic | secondary::apic_register_virtualization;
	return wanted & vcpu.vm.hypervisor.engine().controls().secondary;
}

// Which registers the guest uses without an exit. No VMM can filter them (KVM_X86_SET_MSR_FILTER).
void follow_x2apic(Vcpu &vcpu, bool in_page)
{
	for (u32 offset = 0; offset < x86::ApicPage::register_bytes; offset += 16) {
		const auto name = static_cast<ApicRegister>(offset);
		vcpu.msr_bitmap.intercept_reads(x86::x2apic_msr_of(name), !in_page || !vcpu.lapic->readable_in_page(name));
	}
	for (const auto name : {ApicRegister::tpr, ApicRegister::eoi, ApicRegister::self_ipi})
		vcpu.msr_bitmap.intercept_writes(x86::x2apic_msr_of(name), !in_page);
}

void write_eoi_vectors(vmx::Current vmcs, const std::array<u64, 4> &vectors)
{
	vmcs.write(field::eoi_exit_bitmap0, vectors[0]);
	vmcs.write(field::eoi_exit_bitmap1, vectors[1]);
	vmcs.write(field::eoi_exit_bitmap2, vectors[2]);
	vmcs.write(field::eoi_exit_bitmap3, vectors[3]);
}

} // namespace

void follow_local_apic(Vcpu &vcpu, vmx::Current vmcs)
{
	if (!vcpu.lapic)
		return;
	vcpu.apic_help = help_for(vcpu);
	const bool delivers = vcpu.apic_help == ApicHelp::delivery;
	const u32 wanted = controls_for(vcpu), old = vcpu.secondary_controls.get();
	vcpu.secondary_controls.set(vmcs, (old & ~secondary::apic_virtualization) | wanted);
	// The CPU may know the page as plain memory (SDM vol. 3, 30.4.5).
	if ((old ^ wanted) & secondary::virtual_apic_accesses)
		vcpu.mailbox.request(machine::Request::flush_ept);
	follow_x2apic(vcpu, wanted & secondary::virtual_x2apic);
	vcpu.lapic->share_with_processor(delivers);
	if (delivers) {
		vcpu.tpr_threshold.set(vmcs, 0);
		write_eoi_vectors(vmcs, vcpu.vm.interrupts.eoi_vectors());
	}
}

Result<After> handle_eoi_induced(Exit &exit)
{
	const auto vector = static_cast<u8>(exit.qualification());
	apply_apic_effect(exit.vcpu,
		{.kind = x86::Lapic::Effect::Kind::eoi, .eoi = exit.vcpu.lapic->ended(vector)});
	return After::reenter;
}

Result<After> handle_apic_write(Exit &exit)
{
	apply_apic_effect(exit.vcpu, exit.vcpu.lapic->written(static_cast<u32>(exit.qualification() & 0xfff)));
	return After::reenter;
}

// As an access to any other device (ept_exits.cpp), whose address is known.
Result<After> handle_apic_access(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const u64 qualification = exit.qualification();
	if (vcpu.events.begun) {
		const u64 address = x86::apic_base::default_address | (qualification & 0xfff);
		const u64 data[] = {vcpu.events.begun->info.raw, exit.reason.raw, qualification, address};
		return internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, data);
	}
	return emulate(vcpu, exit.vmcs);
}

} // namespace kvmpp::run
