// SPDX-License-Identifier: GPL-2.0-only
// Controls and host state at VM entry. SDM vol. 3, 27.2.
#include "sim/cpuid.h"
#include "sim/vtx/checks.h"
#include "sim/vtx/virtual_apic.h"
#include "vmx/controls.h"
#include "vmx/event.h"
#include "vmx/fields.h"
#include "x86/msr.h"

namespace kvmpp::sim::vtx
{
namespace
{

namespace field = vmx::field;
namespace msr = x86::msr;
using vmx::EventType;

// Bits of the low half must be set, only those of the high half may be.
bool allowed(u32 controls, u64 capability)
{
	const u32 fixed = static_cast<u32>(capability), may = static_cast<u32>(capability >> 32);
	return (controls & fixed) == fixed && !(controls & ~may);
}

bool page_valid(Hpa address)
{
	return address.aligned(page_size) && !(address.value >> physical_bits);
}

const char *check_execution_controls(const Vmcs &vmcs, const Cpu &cpu)
{
	namespace primary = vmx::primary;
	namespace secondary = vmx::secondary;
	const u32 pin = vmcs.get(field::pin_controls), first = vmcs.get(field::primary_controls);
	const u32 second =
		first & primary::secondary_controls ? vmcs.get(field::secondary_controls) : 0;
	if (!allowed(pin, cpu.msrs.at(msr::vmx_true_pin)))
		return "reserved pin-based controls";
	if (!allowed(first, cpu.msrs.at(msr::vmx_true_primary)))
		return "reserved primary processor-based controls";
	if (!allowed(second, cpu.msrs.at(msr::vmx_secondary)))
		return "reserved secondary processor-based controls";
	if (vmcs.get(field::cr3_target_count) > 4)
		return "more than four CR3 targets";
	if (first & primary::io_bitmaps && (!page_valid(vmcs.get(field::io_bitmap_a)) ||
						   !page_valid(vmcs.get(field::io_bitmap_b))))
		return "addresses of the I/O bitmaps";
	if (first & primary::msr_bitmaps && !page_valid(vmcs.get(field::msr_bitmap)))
		return "address of the MSR bitmap";
	if (first & primary::tpr_shadow) {
		if (!page_valid(vmcs.get(field::virtual_apic_page)))
			return "address of the virtual-APIC page";
		const u32 threshold = vmcs.get(field::tpr_threshold);
		if (!(second & secondary::virtual_interrupt_delivery)) {
			if (threshold > 15)
				return "reserved bits of the TPR threshold";
			if (!(second & secondary::virtual_apic_accesses) &&
				threshold > VirtualApic::read(vmcs, x86::ApicRegister::tpr) >> 4)
				return "a TPR threshold above the virtual TPR";
		}
	} else if (second & (secondary::virtual_x2apic | secondary::apic_register_virtualization |
				    secondary::virtual_interrupt_delivery)) {
		return "APIC virtualization without a TPR shadow";
	}
	if (second & secondary::virtual_x2apic && second & secondary::virtual_apic_accesses)
		return "APIC accesses and x2APIC mode virtualized at once";
	if (!(pin & vmx::pin::nmi_exiting) && pin & vmx::pin::virtual_nmis)
		return "virtual NMIs without NMI exiting";
	if (!(pin & vmx::pin::virtual_nmis) && first & primary::nmi_window_exiting)
		return "NMI-window exiting without virtual NMIs";
	if (second & secondary::virtual_apic_accesses && !page_valid(vmcs.get(field::apic_access_page)))
		return "address of the APIC-access page";
	if (second & secondary::virtual_interrupt_delivery &&
		!(pin & vmx::pin::external_interrupt_exiting))
		return "virtual-interrupt delivery without external-interrupt exiting";
	if (second & secondary::vpid && !vmcs.get(field::vpid))
		return "a VPID of zero";
	if (second & secondary::unrestricted_guest && !(second & secondary::ept))
		return "unrestricted guest without EPT";
	if (second & secondary::ept) {
		const u64 pointer = vmcs.get(field::ept_pointer);
		const u64 ept = cpu.msrs.at(msr::vmx_ept_vpid);
		const u64 type = pointer & 7, levels = pointer >> 3 & 7;
		if ((type != 6 || !(ept & bit(14))) && (type != 0 || !(ept & bit(8))))
			return "memory type of the EPT pointer";
		if (levels != 3)
			return "page-walk length of the EPT pointer";
		if (pointer & bit(6) && !(ept & bit(21)))
			return "accessed and dirty flags for EPT";
		if (pointer & bits(11, 7) || pointer >> physical_bits)
			return "reserved bits of the EPT pointer";
	}
	if (second & secondary::pml && !(second & secondary::ept))
		return "PML without EPT";
	if (second & secondary::pml && !page_valid(vmcs.get(field::page_log)))
		return "address of the page-modification log";
	return nullptr;
}

const char *check_exit_controls(const Vmcs &vmcs, const Cpu &cpu)
{
	using namespace vmx::exit_control;
	const u32 exit = vmcs.get(field::exit_controls);
	if (!allowed(exit, cpu.msrs.at(msr::vmx_true_exit)))
		return "reserved VM-exit controls";
	if (!(vmcs.get(field::pin_controls) & vmx::pin::preemption_timer) && exit & save_preemption_timer)
		return "the preemption timer is saved but not active";
	if (vmcs.get(field::exit_msr_store_count) && vmcs.get(field::exit_msr_store).value & 0xf)
		return "address of the VM-exit MSR-store area";
	if (vmcs.get(field::exit_msr_load_count) && vmcs.get(field::exit_msr_load).value & 0xf)
		return "address of the VM-exit MSR-load area";
	return nullptr;
}

const char *check_entry_controls(const Vmcs &vmcs, const Cpu &cpu)
{
	if (!allowed(vmcs.get(field::entry_controls), cpu.msrs.at(msr::vmx_true_entry)))
		return "reserved VM-entry controls";
	if (vmcs.get(field::entry_msr_load_count) && vmcs.get(field::entry_msr_load).value & 0xf)
		return "address of the VM-entry MSR-load area";
	return nullptr;
}

const char *check_host_registers(const Vmcs &vmcs, const Cpu &cpu)
{
	const u64 cr0 = vmcs.get(field::host_cr0), cr4 = vmcs.get(field::host_cr4);
	const u64 cr0_fixed = cpu.msrs.at(msr::vmx_cr0_fixed0), cr4_fixed = cpu.msrs.at(msr::vmx_cr4_fixed0);
	if ((cr0 & cr0_fixed) != cr0_fixed || cr0 & ~cpu.msrs.at(msr::vmx_cr0_fixed1))
		return "host CR0";
	if ((cr4 & cr4_fixed) != cr4_fixed || cr4 & ~cpu.msrs.at(msr::vmx_cr4_fixed1))
		return "host CR4";
	if (vmcs.get(field::host_cr3) >> physical_bits)
		return "host CR3";
	if (!canonical(vmcs.get(field::host_sysenter_esp)) || !canonical(vmcs.get(field::host_sysenter_eip)))
		return "host SYSENTER addresses";
	const u32 exit = vmcs.get(field::exit_controls);
	if (exit & vmx::exit_control::load_pat && !pat_valid(vmcs.get(field::host_pat)))
		return "host PAT";
	const u64 efer = vmcs.get(field::host_efer);
	constexpr u64 long_mode = x86::efer::lma | x86::efer::lme;
	if (exit & vmx::exit_control::load_efer &&
		(efer & ~(x86::efer::sce | x86::efer::nx | long_mode) || (efer & long_mode) != long_mode))
		return "host EFER";
	if (!(exit & vmx::exit_control::host_64bit))
		return "a host that is not in 64-bit mode";
	if (!(cr4 & X86_CR4_PAE) || !canonical(vmcs.get(field::host_rip)))
		return "host CR4.PAE or RIP";
	return nullptr;
}

const char *check_host_segments(const Vmcs &vmcs)
{
	constexpr u16 rpl_and_ti = 7;
	const u16 selectors[] = {vmcs.get(field::host_es), vmcs.get(field::host_cs), vmcs.get(field::host_ss),
		vmcs.get(field::host_ds), vmcs.get(field::host_fs), vmcs.get(field::host_gs),
		vmcs.get(field::host_tr)};
	for (const u16 selector : selectors)
		if (selector & rpl_and_ti)
			return "RPL or TI of a host selector";
	if (!vmcs.get(field::host_cs) || !vmcs.get(field::host_tr))
		return "a null host CS or TR";
	const u64 bases[] = {vmcs.get(field::host_fs_base), vmcs.get(field::host_gs_base),
		vmcs.get(field::host_gdtr_base), vmcs.get(field::host_idtr_base),
		vmcs.get(field::host_tr_base)};
	for (const u64 base : bases)
		if (!canonical(base))
			return "a host base that is not canonical";
	return nullptr;
}

} // namespace

bool pat_valid(u64 pat)
{
	for (unsigned i = 0; i < 8; ++i) {
		const u64 type = pat >> i * 8 & 0xff;
		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

const char *check_controls(const Vmcs &vmcs, const Cpu &cpu)
{
	if (const char *wrong = check_execution_controls(vmcs, cpu))
		return wrong;
	if (const char *wrong = check_exit_controls(vmcs, cpu))
		return wrong;
	return check_entry_controls(vmcs, cpu);
}

// SDM vol. 3, 27.2.1.3.
const char *check_injected_event(const Vmcs &vmcs)
{
	const vmx::EventInfo event = vmcs.get(field::entry_event);
	if (!event.valid())
		return nullptr;
	const EventType type = event.type();
	const u8 vector = event.vector();
	if (static_cast<u8>(type) == 1 || type == EventType::other)
		return "type of the injected event";
	if (type == EventType::nmi && vector != 2)
		return "an NMI with another vector";
	if (type == EventType::hardware_exception && vector > 31)
		return "an exception with a vector above 31";
	const bool unrestricted =
		vmcs.get(field::secondary_controls) & vmx::secondary::unrestricted_guest;
	const bool real = unrestricted && !(vmcs.get(field::guest_cr0) & X86_CR0_PE);
	constexpr u32 coded = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;
	const bool has_code =
		!real && type == EventType::hardware_exception && vector < 32 && coded >> vector & 1;
	if (event.has_error_code() != has_code)
		return "an injected event with an error code it has not, or without one it has";
	if (event.raw & bits(30, 12))
		return "reserved bits of the injected event";
	if (event.has_error_code() && vmcs.get(field::entry_event_error_code) & bits(31, 16))
		return "reserved bits of the injected error code";
	const u32 length = vmcs.get(field::entry_instruction_length);
	if ((type == EventType::software_interrupt || type == EventType::privileged_software_exception ||
		    type == EventType::software_exception) &&
		(length < 1 || length > 15))
		return "length of the injected instruction";
	return nullptr;
}

const char *check_host_state(const Vmcs &vmcs, const Cpu &cpu)
{
	if (const char *wrong = check_host_registers(vmcs, cpu))
		return wrong;
	return check_host_segments(vmcs);
}

} // namespace kvmpp::sim::vtx
