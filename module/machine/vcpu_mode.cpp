// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's modes: control registers, CPUID, TSC, and what follows from their changes.
#include "machine/vcpu.h"
#include "machine/vm.h"
#include "x86/control_registers.h"
#include "x86/msr.h"

namespace kvmpp::machine
{

namespace field = vmx::field;

void Vcpu::set_cr0(vmx::Current vmcs, u64 value)
{
	const u64 old = state.cr0(vmcs);
	state.set_cr0(value);
	state.set_efer(x86::efer_after_cr0(state.efer(), value));
	if ((old ^ value) & x86::cr0_paging_bits)
		mailbox.request(Request::flush_linear);
}

void Vcpu::set_cr4(vmx::Current vmcs, u64 value)
{
	const u64 old = state.cr4(vmcs);
	state.set_cr4(value);
	if ((old ^ value) & x86::cr4_paging_bits)
		mailbox.request(Request::flush_linear);
	if ((old ^ value) & X86_CR4_OSXSAVE) {
		cpuid.follow_cr4(value);
		uses_xsave_ = value & X86_CR4_OSXSAVE;
		set_xcr0(xcr0);
	}
}

bool Vcpu::load_pdptes(u64 cr3)
{
	std::array<u64, 4> pdptes;
	if (!memory.read(Gpa{cr3 & bits(31, 5)}, pdptes.data(), sizeof(pdptes)))
		return false;
	for (const u64 pdpte : pdptes)
		if (!x86::pdpte_valid(pdpte, cpuid.physical_bits()))
			return false;
	state.set_pdptes(pdptes);
	return true;
}

Result<> Vcpu::set_smm(vmx::Current vmcs, bool active)
{
	if (active == smm.active)
		return {};
	const AddressSpace space = active ? AddressSpace::smm : AddressSpace::normal;
	tables_ = TRY(vm.tables(space));
	memory.set_space(space);
	smm.active = active;
	// A VMCS that has not run yet gets it with all the rest.
	if (vmcs_initialized_)
		vmcs.write(field::ept_pointer, tables_->pointer());
	// Flushes that were asked for meanwhile did not reach what the CPU holds of this address space.
	mailbox.request(Request::flush_ept);
	mailbox.request(Request::flush_linear);
	return {};
}

void Vcpu::set_xcr0(u64 value)
{
	xcr0 = value;
	cpuid.follow_xcr0(value);
	switches_xcr0_ = uses_xsave_ && xcr0 != vm.hypervisor.host_xcr0();
}

void Vcpu::set_cr8(u64 value)
{
	if (lapic)
		lapic->set_cr8(static_cast<u8>(value));
	else
		cr8_ = value & 0xf;
	mailbox.request(Request::event);
}

Result<> Vcpu::set_apic_base(u64 value, bool by_vmm)
{
	if (lapic) {
		TRY(lapic->set_base(value, cpuid.physical_bits(), by_vmm));
		mailbox.request(Request::local_apic);
		follow_apic_access();
		return {};
	}
	using namespace x86::msr::apic_base_bits;
	const u64 reserved = bits(63, cpuid.physical_bits()) | 0x2ff |
			     (cpuid.has(x86::feature::x2apic) ? 0 : x2apic);
	const bool impossible = value & x2apic && !(value & enable);
	if (value & reserved || impossible)
		return fail(EINVAL);
	apic_base_ = value;
	return {};
}

x86::Paging Vcpu::paging(vmx::Current vmcs)
{
	x86::Paging paging{.cr0 = state.cr0(vmcs),
		.cr3 = state.cr3(vmcs),
		.cr4 = state.cr4(vmcs),
		.efer = state.efer(),
		.pdptes = {},
		.physical_bits = cpuid.physical_bits()};
	if (x86::uses_pdptes(paging.cr0, paging.cr4, paging.efer))
		paging.pdptes = state.pdptes(vmcs);
	return paging;
}

x86::Mode Vcpu::mode(vmx::Current vmcs)
{
	// Long mode first: EFER is known without the VMCS, and LMA implies that CR0.PE is set.
	const bool long_mode = state.efer() & x86::efer::lma;
	if (!long_mode && !(state.cr0(vmcs) & X86_CR0_PE))
		return x86::Mode::real;
	const x86::AccessRights cs = state.rights(vmcs, x86::SegmentName::cs);
	if (long_mode && cs.long_mode())
		return x86::Mode::long64;
	if (state.rflags(vmcs) & X86_EFLAGS_VM)
		return x86::Mode::virtual8086;
	return cs.big() ? x86::Mode::protected32 : x86::Mode::protected16;
}

Result<> Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries, vmx::Current vmcs)
{
	x86::Cpuid fresh;
	TRY(fresh.set(entries));
	fresh.follow_cr4(state.cr4(vmcs));
	fresh.follow_xcr0(xcr0);
	follow_misc_enable(fresh);
	// A processor does not change its features while it runs.
	if (statistics[VcpuCounter::entries] > 0)
		return fresh.same_as(cpuid) ? Result<>{} : fail(EINVAL);
	cpuid = std::move(fresh);
	state.own_cr4(cpuid.cr4_allowed());
	if (lapic) {
		lapic->set_features({.x2apic = cpuid.has(x86::feature::x2apic),
			.tsc_deadline = cpuid.has(x86::feature::tsc_deadline),
			.cmci = false,
			.directed_eoi = false});
		mailbox.request(Request::local_apic);
	}
	return {};
}

void Vcpu::follow_misc_enable(x86::Cpuid &features) const
{
	constexpr u64 monitor_enable = bit(18);
	if (!vm.options().has_quirk(KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT))
		features.follow_misc_enable(msrs.misc_enable & monitor_enable);
}

void Vcpu::tsc_changed()
{
	mailbox.request(Request::clock);
	if (lapic)
		lapic->tsc_changed(tsc.moment());
}

void Vcpu::set_tsc_deadline(u64 value)
{
	if (!lapic)
		return;
	// The clock's time costs more than all the rest, and not everybody wants it.
	const bool needs_time = value && !lapic->processor_watches_deadline();
	lapic->set_tsc_deadline(value, needs_time ? tsc.moment() : x86::TscMoment{.tsc = tsc.now()});
}

void Vcpu::set_tsc_offset(u64 value)
{
	tsc.set_offset(value);
	tsc_changed();
}

Result<> Vcpu::set_tsc_khz(u32 khz)
{
	TRY(tsc.set_khz(khz ? khz : vm.tsc_khz(), vm.hypervisor.scales_tsc()));
	tsc_changed();
	return {};
}

} // namespace kvmpp::machine
