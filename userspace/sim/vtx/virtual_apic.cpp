// SPDX-License-Identifier: GPL-2.0-only
#include "sim/vtx/virtual_apic.h"

#include <algorithm>
#include <bit>
#include "vmx/controls.h"
#include "vmx/fields.h"

namespace kvmpp::sim::vtx
{

namespace field = vmx::field;
using x86::ApicRegister;

bool VirtualApic::delivers() const
{
	return vmcs_.get(field::secondary_controls) & vmx::secondary::virtual_interrupt_delivery;
}

bool VirtualApic::has_x2apic() const
{
	return vmcs_.get(field::secondary_controls) & vmx::secondary::virtual_x2apic;
}

bool VirtualApic::takes_accesses() const
{
	return vmcs_.get(field::secondary_controls) & vmx::secondary::virtual_apic_accesses;
}

bool VirtualApic::is_access_page(u64 host) const
{
	return takes_accesses() && (host & ~(page_size - 1)) == vmcs_.get(field::apic_access_page).value;
}

bool VirtualApic::virtualizes(u32 offset, usize size, bool write) const
{
	using enum ApicRegister;
	if (!(vmcs_.get(field::primary_controls) & vmx::primary::tpr_shadow) || size > sizeof(u32) ||
		(offset & 0xf) + size > sizeof(u32))
		return false;
	const auto name = static_cast<ApicRegister>(offset & ~0xfu);
	if (!(vmcs_.get(field::secondary_controls) & vmx::secondary::apic_register_virtualization)) {
		const bool for_delivery = name == eoi || name == icr;
		return !(offset & 0xf) && (name == tpr || (write && delivers() && for_delivery));
	}
	switch (name) {
	case ApicRegister::id:
	case tpr:
	case eoi:
	case ldr:
	case dfr:
	case svr:
	case esr:
	case icr:
	case icr_high:
	case lvt_timer:
	case lvt_thermal:
	case lvt_pmc:
	case lvt_lint0:
	case lvt_lint1:
	case lvt_error:
	case initial_count:
	case divide: return true;
	case version: return !write;
	default: return !write && name >= isr && name < esr;
	}
}

u32 *VirtualApic::place(const Vmcs &vmcs, u32 offset)
{
	// Physical addresses are those of this process.
	return reinterpret_cast<u32 *>(vmcs.get(field::virtual_apic_page).value + offset);
}

void VirtualApic::assign(ApicRegister base, u8 vector, bool value)
{
	u32 *word = place(vmcs_, x86::ApicPage::word_of(base, vector));
	*word = value ? *word | 1u << (vector & 31) : *word & ~(1u << (vector & 31));
}

u8 VirtualApic::highest(ApicRegister base) const
{
	for (unsigned word = 8; word-- > 0;)
		if (const u32 vectors = *place(vmcs_, static_cast<u32>(base) + word * 16))
			return static_cast<u8>(word * 32 + std::bit_width(vectors) - 1);
	return 0;
}

void VirtualApic::virtualize_ppr()
{
	const u8 task = static_cast<u8>(read(ApicRegister::tpr));
	const u8 service = vmcs_.get(field::guest_interrupt_status).in_service & 0xf0;
	write(ApicRegister::ppr, (task & 0xf0) >= service ? task : service);
}

std::optional<u8> VirtualApic::deliver()
{
	auto status = vmcs_.get(field::guest_interrupt_status);
	const u8 vector = status.requesting;
	if (vector >> 4 <= read(ApicRegister::ppr) >> 4)
		return {};
	assign(ApicRegister::isr, vector, true);
	assign(ApicRegister::irr, vector, false);
	status = {.requesting = highest(ApicRegister::irr), .in_service = vector};
	vmcs_.set(field::guest_interrupt_status, status);
	write(ApicRegister::ppr, vector & 0xf0);
	return vector;
}

VirtualApic::Ended VirtualApic::end()
{
	auto status = vmcs_.get(field::guest_interrupt_status);
	const u8 vector = status.in_service;
	assign(ApicRegister::isr, vector, false);
	status.in_service = highest(ApicRegister::isr);
	vmcs_.set(field::guest_interrupt_status, status);
	virtualize_ppr();
	const u64 exits[] = {vmcs_.get(field::eoi_exit_bitmap0), vmcs_.get(field::eoi_exit_bitmap1),
		vmcs_.get(field::eoi_exit_bitmap2), vmcs_.get(field::eoi_exit_bitmap3)};
	return {vector, (exits[vector >> 6] >> (vector & 63) & 1) != 0};
}

void VirtualApic::request(u8 vector)
{
	assign(ApicRegister::irr, vector, true);
	auto status = vmcs_.get(field::guest_interrupt_status);
	status.requesting = std::max(status.requesting, vector);
	vmcs_.set(field::guest_interrupt_status, status);
}

bool VirtualApic::below_threshold() const
{
	return read(ApicRegister::tpr) >> 4 < vmcs_.get(field::tpr_threshold);
}

} // namespace kvmpp::sim::vtx
