// SPDX-License-Identifier: GPL-2.0-only
#include "vmx/guest_state.h"

#include <utility>
#include "host/seam.h"
#include "vmx/fields.h"

namespace kvmpp::vmx
{
namespace
{

using x86::AccessRights;
using x86::SegmentName;

// Calls use(SegmentFields<name>{}) for a segment known only at run time.
template <class Use>
auto with_fields(SegmentName name, Use &&use)
{
	switch (name) {
	case SegmentName::es: return use(field::SegmentFields<SegmentName::es>{});
	case SegmentName::cs: return use(field::SegmentFields<SegmentName::cs>{});
	case SegmentName::ss: return use(field::SegmentFields<SegmentName::ss>{});
	case SegmentName::ds: return use(field::SegmentFields<SegmentName::ds>{});
	case SegmentName::fs: return use(field::SegmentFields<SegmentName::fs>{});
	case SegmentName::gs: return use(field::SegmentFields<SegmentName::gs>{});
	case SegmentName::ldtr: return use(field::SegmentFields<SegmentName::ldtr>{});
	case SegmentName::tr: return use(field::SegmentFields<SegmentName::tr>{});
	}
	std::unreachable();
}

} // namespace

u64 GuestState::cr0(Current vmcs)
{
	if (learn(Register::cr0)) {
		const u64 real = vmcs.read(field::guest_cr0);
		cr0_ = (cr0_ & ~cr0_guest_owned) | (real & cr0_guest_owned);
	}
	return cr0_;
}

u64 GuestState::cr3(Current vmcs)
{
	if (learn(Register::cr3))
		cr3_ = vmcs.read(field::guest_cr3);
	return cr3_;
}

u64 GuestState::cr4(Current vmcs)
{
	if (learn(Register::cr4)) {
		const u64 real = vmcs.read(field::guest_cr4);
		cr4_ = (cr4_ & ~cr4_guest_owned_) | (real & cr4_guest_owned_);
	}
	return cr4_;
}

std::array<u64, 4> GuestState::pdptes(Current vmcs)
{
	if (learn(Register::pdptes))
		pdptes_ = {vmcs.read(field::guest_pdpte0), vmcs.read(field::guest_pdpte1),
			vmcs.read(field::guest_pdpte2), vmcs.read(field::guest_pdpte3)};
	return pdptes_;
}

x86::Segment GuestState::segment(Current vmcs, SegmentName name)
{
	x86::Segment &cached = segments_[static_cast<u8>(name)];
	if (learn(register_of(name)))
		with_fields(name, [&](auto fields) {
			cached = {.selector = vmcs.read(fields.selector),
				.limit = vmcs.read(fields.limit),
				.base = vmcs.read(fields.base),
				.rights = vmcs.read(fields.rights)};
		});
	return cached;
}

void GuestState::set_segment(SegmentName name, const x86::Segment &segment)
{
	segments_[static_cast<u8>(name)] = segment;
	known_ |= mask(register_of(name));
	dirty_ |= mask(register_of(name));
}

AccessRights GuestState::rights(Current vmcs, SegmentName name)
{
	if (known_ & mask(register_of(name)))
		return segments_[static_cast<u8>(name)].rights;
	return with_fields(name, [&](auto fields) { return vmcs.read(fields.rights); });
}

u64 GuestState::segment_base(Current vmcs, SegmentName name)
{
	if (known_ & mask(register_of(name)))
		return segments_[static_cast<u8>(name)].base;
	return with_fields(name, [&](auto fields) { return vmcs.read(fields.base); });
}

x86::DescriptorTable GuestState::gdt(Current vmcs)
{
	if (learn(Register::gdt))
		gdt_ = {vmcs.read(field::guest_gdtr_base),
			static_cast<u16>(vmcs.read(field::guest_gdtr_limit))};
	return gdt_;
}

x86::DescriptorTable GuestState::idt(Current vmcs)
{
	if (learn(Register::idt))
		idt_ = {vmcs.read(field::guest_idtr_base),
			static_cast<u16>(vmcs.read(field::guest_idtr_limit))};
	return idt_;
}

Sysenter GuestState::sysenter(Current vmcs)
{
	if (learn(Register::sysenter))
		sysenter_ = {vmcs.read(field::guest_sysenter_cs), vmcs.read(field::guest_sysenter_esp),
			vmcs.read(field::guest_sysenter_eip)};
	return sysenter_;
}

u32 GuestState::interruptibility(Current vmcs)
{
	if (learn(Register::interruptibility)) {
		const u32 real = vmcs.read(field::guest_interruptibility);
		interruptibility_ = real;
		if (std::exchange(instruction_passed_, false)) {
			interruptibility_ &= ~(blocking::sti | blocking::mov_ss);
			if (interruptibility_ != real)
				dirty_ |= mask(Register::interruptibility);
		}
	}
	return interruptibility_;
}

void GuestState::own_cr4(u64 allowed)
{
	cr4_guest_owned_ = cr4_guest_owned_possible & allowed;
	dirty_ |= mask(Register::cr4);
}

void GuestState::initialize(Current vmcs, const Capabilities &capabilities, const Controls &controls,
	Gpa identity_map)
{
	// Unrestricted guest lifts the demand for protection and paging (SDM vol. 3, 27.3.1.1).
	unrestricted_ = controls.secondary & secondary::unrestricted_guest;
	identity_map_ = identity_map;
	cr0_always_on_ = capabilities.cr0_fixed0 & ~(unrestricted_ ? X86_CR0_PE | X86_CR0_PG : 0ul);
	// Machine checks of the host must reach it while a guest runs.
	cr4_always_on_ = capabilities.cr4_fixed0 | (kvmpp_cr4_read() & X86_CR4_MCE);
	entry_controls_ = controls.entry;
	halts_inside_ = !(controls.primary & primary::hlt_exiting);
	vmcs.write(field::cr0_guest_host_mask, ~cr0_guest_owned);
	dirty_ = all;
}

// Paging goes on or off: what is in the VMCS is not the guest's then, or is again.
void GuestState::follow_paging(Current vmcs)
{
	(void)cr3(vmcs);
	(void)cr4(vmcs);
	dirty_ |= mask(Register::cr3) | mask(Register::cr4) | mask(Register::efer);
	kept_ = kept_over_entry | (mapped_by_identity() ? mask(Register::cr3) : 0);
}

void GuestState::write_control_registers(Current vmcs)
{
	if (!unrestricted_ && dirty_ & mask(Register::cr0))
		follow_paging(vmcs);
	const bool identity = mapped_by_identity();
	if (dirty_ & mask(Register::cr0)) {
		// Caching stays the host's business: CD and NW are shown to the guest only.
		constexpr u64 only_shown = X86_CR0_CD | X86_CR0_NW;
		vmcs.write(field::guest_cr0, (cr0_ & ~only_shown) | cr0_always_on_);
		vmcs.write(field::cr0_read_shadow, cr0_);
	}
	if (dirty_ & mask(Register::cr4)) {
		vmcs.write(field::cr4_guest_host_mask, ~cr4_guest_owned_);
		// The identity map has entries of 4 MiB, for user and supervisor alike.
		constexpr u64 not_with_identity = X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE;
		const u64 shown = identity ? (cr4_ & ~not_with_identity) | X86_CR4_PSE : cr4_;
		vmcs.write(field::guest_cr4, shown | cr4_always_on_);
		vmcs.write(field::cr4_read_shadow, cr4_);
	}
	if (dirty_ & mask(Register::cr3))
		vmcs.write(field::guest_cr3, identity ? identity_map_.value : cr3_);
	if (dirty_ & mask(Register::efer)) {
		const bool long_mode = efer_ & x86::efer::lma;
		// With paging forced on, LME would mean long mode.
		vmcs.write(field::guest_efer, identity ? efer_ & ~x86::efer::lme : efer_);
		vmcs.write(field::entry_controls,
			entry_controls_ | (long_mode ? entry_control::ia32e_guest : 0));
	}
	if (dirty_ & mask(Register::pat))
		vmcs.write(field::guest_pat, pat_);
	if (dirty_ & mask(Register::pdptes)) {
		vmcs.write(field::guest_pdpte0, pdptes_[0]);
		vmcs.write(field::guest_pdpte1, pdptes_[1]);
		vmcs.write(field::guest_pdpte2, pdptes_[2]);
		vmcs.write(field::guest_pdpte3, pdptes_[3]);
	}
	if (dirty_ & mask(Register::dr7))
		vmcs.write(field::guest_dr7, dr7_);
}

// Outside 64-bit code RIP wraps at 4 GiB.
void GuestState::wrap_rip(Current vmcs)
{
	if (!(efer_ & x86::efer::lma) || !rights(vmcs, SegmentName::cs).long_mode())
		rip_ = static_cast<u32>(rip_);
}

void GuestState::write_dirty(Current vmcs)
{
	// Registers that were set are those of a guest that goes on: one that halts by itself is woken.
	wake(vmcs);
	if (dirty_ & mask(Register::rip))
		vmcs.write(field::guest_rip, rip_);
	if (dirty_ & mask(Register::rsp))
		vmcs.write(field::guest_rsp, rsp_);
	if (dirty_ & mask(Register::rflags)) {
		vmcs.write(field::guest_rflags, rflags_);
		// A VM entry refuses blocking by STI with IF clear (SDM vol. 3, 27.3.1.5).
		if (!(rflags_ & X86_EFLAGS_IF) && interruptibility(vmcs) & blocking::sti)
			set_interruptibility(interruptibility_ & ~blocking::sti);
	}
	if (dirty_ & mask(Register::interruptibility))
		vmcs.write(field::guest_interruptibility, interruptibility_);

	constexpr u32 program = program_state | mask(Register::interruptibility);
	if (!(dirty_ & ~program)) {
		dirty_ = 0;
		return;
	}

	write_control_registers(vmcs);
	for (unsigned i = 0; i < x86::segment_count; ++i) {
		const auto name = static_cast<SegmentName>(i);
		if (!(dirty_ & mask(register_of(name))))
			continue;
		with_fields(name, [&](auto fields) {
			vmcs.write(fields.selector, segments_[i].selector);
			vmcs.write(fields.limit, segments_[i].limit);
			vmcs.write(fields.base, segments_[i].base);
			vmcs.write(fields.rights, segments_[i].rights);
		});
	}
	if (dirty_ & mask(Register::gdt)) {
		vmcs.write(field::guest_gdtr_base, gdt_.base);
		vmcs.write(field::guest_gdtr_limit, gdt_.limit);
	}
	if (dirty_ & mask(Register::idt)) {
		vmcs.write(field::guest_idtr_base, idt_.base);
		vmcs.write(field::guest_idtr_limit, idt_.limit);
	}
	if (dirty_ & mask(Register::sysenter)) {
		vmcs.write(field::guest_sysenter_cs, static_cast<u32>(sysenter_.cs));
		vmcs.write(field::guest_sysenter_esp, sysenter_.esp);
		vmcs.write(field::guest_sysenter_eip, sysenter_.eip);
	}
	dirty_ = 0;
}

} // namespace kvmpp::vmx
