// SPDX-License-Identifier: GPL-2.0-only
#include "run/virtual_apic.h"

#include <array>
#include "machine/vm.h"
#include "run/apic_effects.h"
#include "run/handlers.h"

namespace kvmpp::run
{
namespace
{

namespace field = vmx::field;
namespace secondary = vmx::secondary;
using machine::ApicHelp;
using x86::ApicRegister;

constexpr u32 msr_of(ApicRegister name)
{
	return x86::x2apic_msr_first + static_cast<u32>(name) / 16;
}

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

// Which registers the guest uses without an exit. No VMM can filter them (KVM_X86_SET_MSR_FILTER).
void follow_x2apic(Vcpu &vcpu, bool in_page)
{
	for (u32 offset = 0; offset < x86::ApicPage::register_bytes; offset += 16) {
		const auto name = static_cast<ApicRegister>(offset);
		vcpu.msr_bitmap.intercept_reads(msr_of(name), !in_page || !vcpu.lapic->readable_in_page(name));
	}
	for (const auto name : {ApicRegister::tpr, ApicRegister::eoi, ApicRegister::self_ipi})
		vcpu.msr_bitmap.intercept_writes(msr_of(name), !in_page);
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
	const bool x2apic = delivers && vcpu.lapic->x2apic_enabled();

	u32 wanted = delivers ? secondary::virtual_interrupt_delivery : 0;
	if (x2apic)
		wanted |= secondary::virtual_x2apic | secondary::apic_register_virtualization;
	const u32 others = vcpu.secondary_controls.get() & ~secondary::apic_virtualization;
	vcpu.secondary_controls.set(vmcs, others | wanted);
	follow_x2apic(vcpu, x2apic);
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

} // namespace kvmpp::run
