// SPDX-License-Identifier: GPL-2.0-only
// Guest state at VM entry but for its segments. SDM vol. 3, 27.3.1.
#include "sim/cpuid.h"
#include "sim/vtx/check_segments.h"
#include "sim/vtx/checks.h"
#include "vmx/controls.h"
#include "vmx/event.h"
#include "vmx/fields.h"
#include "x86/control_registers.h"
#include "x86/msr.h"

namespace kvmpp::sim::vtx
{
namespace
{

namespace field = vmx::field;
namespace msr = x86::msr;
using vmx::EventType;

struct Guest {
	const Vmcs &vmcs;
	u32 entry = vmcs.get(field::entry_controls);
	u32 secondary = vmcs.get(field::secondary_controls);
	u64 cr0 = vmcs.get(field::guest_cr0), cr4 = vmcs.get(field::guest_cr4);
	u64 rflags = vmcs.get(field::guest_rflags);
	bool ia32e = entry & vmx::entry_control::ia32e_guest;
	bool unrestricted = secondary & vmx::secondary::unrestricted_guest;
};

// 27.3.1.1
const char *check_control_registers(const Guest &guest, const Cpu &cpu)
{
	const Vmcs &vmcs = guest.vmcs;
	u64 cr0_fixed = cpu.msrs.at(msr::vmx_cr0_fixed0);
	if (guest.unrestricted)
		cr0_fixed &= ~u64{X86_CR0_PE | X86_CR0_PG};
	if ((guest.cr0 & cr0_fixed) != cr0_fixed || guest.cr0 & ~cpu.msrs.at(msr::vmx_cr0_fixed1))
		return "CR0";
	if (guest.cr0 & X86_CR0_PG && !(guest.cr0 & X86_CR0_PE))
		return "CR0.PG without CR0.PE";
	const u64 cr4_fixed = cpu.msrs.at(msr::vmx_cr4_fixed0);
	if ((guest.cr4 & cr4_fixed) != cr4_fixed || guest.cr4 & ~cpu.msrs.at(msr::vmx_cr4_fixed1))
		return "CR4";
	if (guest.entry & vmx::entry_control::load_debug_controls) {
		if (vmcs.get(field::guest_debugctl) & ~u64{0xdfc3})
			return "IA32_DEBUGCTL";
		if (vmcs.get(field::guest_dr7) >> 32)
			return "DR7";
	}
	if (guest.ia32e && (!(guest.cr0 & X86_CR0_PG) || !(guest.cr4 & X86_CR4_PAE)))
		return "IA-32e mode without paging or PAE";
	if (!guest.ia32e && guest.cr4 & X86_CR4_PCIDE)
		return "CR4.PCIDE outside IA-32e mode";
	if (vmcs.get(field::guest_cr3) >> physical_bits)
		return "CR3";
	if (!canonical(vmcs.get(field::guest_sysenter_esp)) ||
		!canonical(vmcs.get(field::guest_sysenter_eip)))
		return "SYSENTER addresses";
	if (guest.entry & vmx::entry_control::load_pat && !pat_valid(vmcs.get(field::guest_pat)))
		return "IA32_PAT";
	if (guest.entry & vmx::entry_control::load_efer) {
		using namespace x86::efer;
		const u64 value = vmcs.get(field::guest_efer);
		if (value & ~(sce | lme | lma | nx))
			return "reserved bits of IA32_EFER";
		if (((value & lma) != 0) != guest.ia32e)
			return "IA32_EFER.LMA against the VM-entry control";
		if (guest.cr0 & X86_CR0_PG && ((value & lma) != 0) != ((value & lme) != 0))
			return "IA32_EFER.LMA against LME";
	}
	return nullptr;
}

// 27.3.1.3
const char *check_tables(const Vmcs &vmcs)
{
	if (!canonical(vmcs.get(field::guest_gdtr_base)) || !canonical(vmcs.get(field::guest_idtr_base)))
		return "base of GDTR or IDTR";
	if (vmcs.get(field::guest_gdtr_limit) >> 16 || vmcs.get(field::guest_idtr_limit) >> 16)
		return "limit of GDTR or IDTR";
	return nullptr;
}

// 27.3.1.4
const char *check_rip_and_rflags(const Guest &guest)
{
	const u64 rip = guest.vmcs.get(field::guest_rip);
	const auto cs = guest.vmcs.get(field::SegmentFields<x86::SegmentName::cs>::rights);
	if (guest.ia32e && cs.long_mode() ? !canonical(rip) : rip >> 32 != 0)
		return "RIP";
	constexpr u64 reserved = bits(63, 22) | 1 << 15 | 1 << 5 | 1 << 3;
	if (guest.rflags & reserved || !(guest.rflags & X86_EFLAGS_FIXED))
		return "RFLAGS";
	if (guest.rflags & X86_EFLAGS_VM && (guest.ia32e || !(guest.cr0 & X86_CR0_PE)))
		return "RFLAGS.VM";
	const vmx::EventInfo event = guest.vmcs.get(field::entry_event);
	if (event.valid() && event.type() == EventType::external_interrupt &&
		!(guest.rflags & X86_EFLAGS_IF))
		return "an interrupt is injected with RFLAGS.IF clear";
	return nullptr;
}

// 27.3.1.5
const char *check_activity(const Guest &guest)
{
	using namespace vmx::blocking;
	const Vmcs &vmcs = guest.vmcs;
	const u32 activity = vmcs.get(field::guest_activity), blocked = vmcs.get(field::guest_interruptibility);
	constexpr u32 active = 0, halted = 1, wait_for_sipi = 3, enclave = 1 << 4;
	if (activity > wait_for_sipi)
		return "activity state";
	const auto ss = vmcs.get(field::SegmentFields<x86::SegmentName::ss>::rights);
	if (activity == halted && ss.dpl())
		return "halted outside ring 0";
	if (activity != active && blocked & (sti | mov_ss))
		return "not active, but blocked by STI or MOV SS";
	if (blocked & ~(sti | mov_ss | smi | nmi | enclave))
		return "reserved bits of the interruptibility state";
	if ((blocked & (sti | mov_ss)) == (sti | mov_ss))
		return "blocked by STI and MOV SS at once";
	if (blocked & sti && !(guest.rflags & X86_EFLAGS_IF))
		return "blocked by STI with RFLAGS.IF clear";
	if (blocked & smi)
		return "blocked by SMI outside SMM";
	const vmx::EventInfo event = vmcs.get(field::entry_event);
	if (event.valid() && event.type() == EventType::external_interrupt && blocked & (sti | mov_ss))
		return "an interrupt is injected while blocked";
	if (event.valid() && event.type() == EventType::nmi) {
		if (blocked & mov_ss)
			return "an NMI is injected while blocked by MOV SS";
		if (vmcs.get(field::pin_controls) & vmx::pin::virtual_nmis && blocked & nmi)
			return "an NMI is injected while blocked by NMI";
	}
	const u64 debug = vmcs.get(field::guest_pending_debug);
	constexpr u64 single_step = 1 << 14, known = 0x1500f;
	if (debug & ~known)
		return "reserved bits of the pending debug exceptions";
	if (blocked & (sti | mov_ss) || activity == halted) {
		const bool steps = guest.rflags & X86_EFLAGS_TF && !(vmcs.get(field::guest_debugctl) & 2);
		if (steps != ((debug & single_step) != 0))
			return "pending single step against RFLAGS.TF";
	}
	return nullptr;
}

} // namespace

const char *check_guest_state(const Vmcs &vmcs, const Cpu &cpu, u64 &qualification)
{
	const Guest guest{vmcs};
	qualification = 0;
	if (const char *wrong = check_control_registers(guest, cpu))
		return wrong;
	if (const char *wrong = check_segments(vmcs))
		return wrong;
	if (const char *wrong = check_tables(vmcs))
		return wrong;
	if (const char *wrong = check_rip_and_rflags(guest))
		return wrong;
	if (const char *wrong = check_activity(guest))
		return wrong;
	if (vmcs.get(field::vmcs_link_pointer) != ~u64{0}) {
		qualification = 4;
		return "VMCS link pointer";
	}
	// 27.3.1.6: with EPT the PDPTEs come from the VMCS.
	if (guest.cr0 & X86_CR0_PG && guest.cr4 & X86_CR4_PAE && !guest.ia32e) {
		const u64 pdptes[] = {vmcs.get(field::guest_pdpte0), vmcs.get(field::guest_pdpte1),
			vmcs.get(field::guest_pdpte2), vmcs.get(field::guest_pdpte3)};
		for (const u64 pdpte : pdptes) {
			if (!x86::pdpte_valid(pdpte, physical_bits)) {
				qualification = 2;
				return "PDPTEs";
			}
		}
	}
	return nullptr;
}

} // namespace kvmpp::sim::vtx
