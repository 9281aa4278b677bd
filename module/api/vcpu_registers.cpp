// SPDX-License-Identifier: GPL-2.0-only
#include <algorithm>
#include <bit>
#include "api/vcpu.h"
#include "machine/vm.h"
#include "run/resident.h"
#include "x86/control_registers.h"

namespace kvmpp::api
{
namespace
{

using x86::Gpr;
using x86::SegmentName;

// kvm_regs lists the registers in another order than their encoding.
struct RegisterPlace {
	Gpr name;
	__u64 kvm_regs::*place;
};

constexpr RegisterPlace register_places[] = {{Gpr::rax, &kvm_regs::rax}, {Gpr::rbx, &kvm_regs::rbx},
	{Gpr::rcx, &kvm_regs::rcx}, {Gpr::rdx, &kvm_regs::rdx}, {Gpr::rsi, &kvm_regs::rsi},
	{Gpr::rdi, &kvm_regs::rdi}, {Gpr::rbp, &kvm_regs::rbp}, {Gpr::r8, &kvm_regs::r8},
	{Gpr::r9, &kvm_regs::r9}, {Gpr::r10, &kvm_regs::r10}, {Gpr::r11, &kvm_regs::r11},
	{Gpr::r12, &kvm_regs::r12}, {Gpr::r13, &kvm_regs::r13}, {Gpr::r14, &kvm_regs::r14},
	{Gpr::r15, &kvm_regs::r15}};

// kvm_sregs and kvm_sregs2 begin with the same registers.
template <class Sregs>
struct SegmentPlace {
	SegmentName name;
	kvm_segment Sregs::*place;
};

template <class Sregs>
constexpr SegmentPlace<Sregs> segment_places[] = {{SegmentName::cs, &Sregs::cs}, {SegmentName::ds, &Sregs::ds},
	{SegmentName::es, &Sregs::es}, {SegmentName::fs, &Sregs::fs}, {SegmentName::gs, &Sregs::gs},
	{SegmentName::ss, &Sregs::ss}, {SegmentName::tr, &Sregs::tr}, {SegmentName::ldtr, &Sregs::ldt}};

kvm_segment to_user(const x86::Segment &segment)
{
	const x86::AccessRights rights = segment.rights;
	return {.base = segment.base,
		.limit = segment.limit,
		.selector = segment.selector,
		.type = static_cast<u8>(rights.type()),
		.present = rights.present() && !rights.unusable(),
		.dpl = static_cast<u8>(rights.dpl()),
		.db = rights.big(),
		.s = rights.s(),
		.l = rights.long_mode(),
		.g = rights.granular(),
		.avl = rights.available(),
		.unusable = rights.unusable() || !rights.present(),
		.padding = 0};
}

x86::Segment from_user(const kvm_segment &segment)
{
	// A segment that is not present cannot be used; VT-x says so by a bit of its own.
	const bool unusable = segment.unusable || !segment.present;
	const u32 rights = (segment.type & 15) | (segment.s & 1) << 4 | (segment.dpl & 3) << 5 |
			   (segment.present & 1) << 7 | (segment.avl & 1) << 12 |
			   (segment.l & 1) << 13 | (segment.db & 1) << 14 | (segment.g & 1) << 15;
	return {.selector = segment.selector,
		.limit = segment.limit,
		.base = segment.base,
		.rights = {unusable ? rights | x86::AccessRights::unusable_bit : rights}};
}

kvm_dtable to_user(const x86::DescriptorTable &table)
{
	return {.base = table.base, .limit = table.limit, .padding = {}};
}

// A vCPU that its VMM resets by registers alone is not halted any more.
template <class Sregs>
bool at_reset_vector(const Sregs &sregs, u64 rip)
{
	return rip == 0xfff0 && sregs.cs.selector == 0xf000 && sregs.cs.base == 0xffff0000 &&
	       !(sregs.cr0 & X86_CR0_PE);
}

std::optional<u8> pending_interrupt(const Vcpu &vcpu)
{
	for (const auto &delivery : {vcpu.events.next, vcpu.events.begun})
		if (delivery && delivery->info.type() == vmx::EventType::external_interrupt)
			return delivery->info.vector();
	return vcpu.events.user_interrupt;
}

template <class Sregs>
void get_common(Vcpu &vcpu, vmx::Current vmcs, Sregs &sregs)
{
	auto &state = vcpu.state;
	for (const auto &[name, place] : segment_places<Sregs>)
		sregs.*place = to_user(state.segment(vmcs, name));
	sregs.gdt = to_user(state.gdt(vmcs));
	sregs.idt = to_user(state.idt(vmcs));
	sregs.cr0 = state.cr0(vmcs);
	sregs.cr2 = vcpu.cr2;
	sregs.cr3 = state.cr3(vmcs);
	sregs.cr4 = state.cr4(vmcs);
	sregs.cr8 = vcpu.cr8();
	sregs.efer = state.efer();
	sregs.apic_base = vcpu.apic_base();
}

// EINVAL, and nothing has changed: no processor could be in that state. Without PDPTEs of the VMM's
// they come from memory.
template <class Sregs>
Result<> set_common(Vcpu &vcpu, vmx::Current vmcs, const Sregs &sregs, bool reads_pdptes)
{
	using namespace x86::efer;
	// A VMM may set registers before it says what processor they are of.
	const bool any_processor = vcpu.cpuid.entries().empty();
	const u64 cr4_allowed =
		any_processor ? vcpu.vm.hypervisor.cr4_supported() : vcpu.cpuid.cr4_allowed();
	if (!x86::consistent({.cr0 = sregs.cr0,
		    .cr3 = sregs.cr3,
		    .cr4 = sregs.cr4,
		    .efer = sregs.efer,
		    .cr4_allowed = cr4_allowed,
		    .physical_bits = vcpu.cpuid.physical_bits(),
		    .cs_long = sregs.cs.l != 0,
		    .cs_default_big = sregs.cs.db != 0}) ||
		sregs.efer & ~(sce | lme | lma | nx) || sregs.cr8 > 15)
		return fail(EINVAL);
	TRY(vcpu.set_apic_base(sregs.apic_base, true));

	auto &state = vcpu.state;
	state.set_gdt({sregs.gdt.base, sregs.gdt.limit});
	state.set_idt({sregs.idt.base, sregs.idt.limit});
	vcpu.cr2 = sregs.cr2;
	state.set_cr3(sregs.cr3);
	vcpu.set_cr8(sregs.cr8);
	state.set_efer(sregs.efer);
	state.set_cr0(sregs.cr0);
	vcpu.set_cr4(vmcs, sregs.cr4);
	// A VMM may set registers before memory: then the guest's first look fails, not this.
	if (reads_pdptes && x86::uses_pdptes(sregs.cr0, sregs.cr4, sregs.efer))
		(void)vcpu.load_pdptes(sregs.cr3);
	for (const auto &[name, place] : segment_places<Sregs>)
		state.set_segment(name, from_user(sregs.*place));
	if (vcpu.is_bsp() && at_reset_vector(sregs, state.rip(vmcs)))
		vcpu.mp_state = machine::MpState::runnable;
	vcpu.mailbox.request(machine::Request::flush_linear);
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

} // namespace

Result<> get_regs(Vcpu &vcpu, kvm_regs &regs)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	for (const auto &[name, place] : register_places)
		regs.*place = vcpu.gpr(name);
	regs.rsp = vcpu.state.rsp(resident.vmcs);
	regs.rip = vcpu.state.rip(resident.vmcs);
	regs.rflags = vcpu.state.rflags(resident.vmcs);
	return {};
}

void set_regs(Vcpu &vcpu, const kvm_regs &regs)
{
	for (const auto &[name, place] : register_places)
		vcpu.gpr(name) = regs.*place;
	vcpu.state.set_rsp(regs.rsp);
	vcpu.state.set_rip(regs.rip);
	vcpu.state.set_rflags(regs.rflags);
	vcpu.events.exception.reset();
	vcpu.mailbox.request(machine::Request::event);
}

Result<> get_sregs(Vcpu &vcpu, kvm_sregs &sregs)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	get_common(vcpu, resident.vmcs, sregs);
	if (const auto vector = pending_interrupt(vcpu))
		sregs.interrupt_bitmap[*vector / 64] |= bit(*vector % 64);
	return {};
}

Result<> set_sregs(Vcpu &vcpu, const kvm_sregs &sregs)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	TRY(set_common(vcpu, resident.vmcs, sregs, true));
	for (unsigned word = 0; word < 4; ++word) {
		if (!sregs.interrupt_bitmap[word])
			continue;
		const unsigned vector = word * 64 + std::countr_zero(u64{sregs.interrupt_bitmap[word]});
		vcpu.events.begun = machine::Delivery{
			.info = vmx::EventInfo::of(vmx::EventType::external_interrupt, vector)};
		break;
	}
	return {};
}

Result<> get_sregs2(Vcpu &vcpu, kvm_sregs2 &sregs)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	get_common(vcpu, resident.vmcs, sregs);
	if (x86::uses_pdptes(sregs.cr0, sregs.cr4, sregs.efer)) {
		const auto pdptes = vcpu.state.pdptes(resident.vmcs);
		std::copy(pdptes.begin(), pdptes.end(), sregs.pdptrs);
		sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return {};
}

Result<> set_sregs2(Vcpu &vcpu, const kvm_sregs2 &sregs)
{
	const bool has_pdptes = sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	if (sregs.flags & ~u64{KVM_SREGS2_FLAGS_PDPTRS_VALID})
		return fail(EINVAL);
	if (has_pdptes && !x86::uses_pdptes(sregs.cr0, sregs.cr4, sregs.efer))
		return fail(EINVAL);
	std::array<u64, 4> pdptes{};
	if (has_pdptes) {
		std::copy_n(sregs.pdptrs, pdptes.size(), pdptes.begin());
		for (const u64 pdpte : pdptes)
			if (!x86::pdpte_valid(pdpte, vcpu.cpuid.physical_bits()))
				return fail(EINVAL);
	}
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	TRY(set_common(vcpu, resident.vmcs, sregs, !has_pdptes));
	if (has_pdptes)
		vcpu.state.set_pdptes(pdptes);
	return {};
}

void get_debugregs(Vcpu &vcpu, kvm_debugregs &regs)
{
	for (unsigned i = 0; i < 4; ++i)
		regs.db[i] = vcpu.debug.address[i];
	regs.dr6 = vcpu.debug.dr6;
	regs.dr7 = vcpu.state.dr7();
}

Result<> set_debugregs(Vcpu &vcpu, const kvm_debugregs &regs)
{
	if (regs.flags || (regs.dr6 | regs.dr7) >> 32)
		return fail(EINVAL);
	for (unsigned i = 0; i < 4; ++i)
		vcpu.debug.address[i] = regs.db[i];
	vcpu.debug.dr6 = regs.dr6;
	vcpu.state.set_dr7(regs.dr7 | machine::DebugRegisters::dr7_fixed);
	return {};
}

} // namespace kvmpp::api
