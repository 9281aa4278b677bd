// SPDX-License-Identifier: GPL-2.0-only
#include "api/vm_irq.h"

#include <linux/kvm.h>
#include "api/user.h"

namespace kvmpp::api
{
namespace
{

using machine::IrqSource;
using machine::Vm;

Result<machine::LegacyChips *> chips_of(Vm &vm)
{
	if (machine::LegacyChips *chips = vm.interrupts.chips())
		return chips;
	return fail(ENXIO);
}

Result<x86::Pit *> pit_of(Vm &vm)
{
	if (x86::Pit *pit = vm.interrupts.pit())
		return pit;
	return fail(ENXIO);
}

Result<> create_pit(Vm &vm, const kvm_pit_config &config)
{
	if (config.flags & ~u32{KVM_PIT_SPEAKER_DUMMY})
		return fail(EINVAL);
	return vm.create_pit(config.flags & KVM_PIT_SPEAKER_DUMMY);
}

Result<> irq_line(Vm &vm, kvm_irq_level &line)
{
	if (!vm.interrupts.has_lapics())
		return fail(ENXIO);
	line.status = vm.interrupts.set_line(line.irq, IrqSource::userspace, line.level);
	return {};
}

Result<> get_irqchip(Vm &vm, kvm_irqchip &state)
{
	machine::LegacyChips *chips = TRY(chips_of(vm));
	switch (state.chip_id) {
	case KVM_IRQCHIP_PIC_MASTER: chips->pic.get(0, state.chip.pic); return {};
	case KVM_IRQCHIP_PIC_SLAVE: chips->pic.get(1, state.chip.pic); return {};
	case KVM_IRQCHIP_IOAPIC: chips->ioapic.get(state.chip.ioapic); return {};
	default: return fail(EINVAL);
	}
}

Result<> set_irqchip(Vm &vm, const kvm_irqchip &state)
{
	machine::LegacyChips *chips = TRY(chips_of(vm));
	switch (state.chip_id) {
	case KVM_IRQCHIP_PIC_MASTER: chips->pic.set(0, state.chip.pic); return {};
	case KVM_IRQCHIP_PIC_SLAVE: chips->pic.set(1, state.chip.pic); return {};
	case KVM_IRQCHIP_IOAPIC: chips->ioapic.set(state.chip.ioapic); return {};
	default: return fail(EINVAL);
	}
}

Result<> get_pit(Vm &vm, kvm_pit_state2 &state)
{
	TRY(pit_of(vm))->get(state);
	return {};
}

Result<> set_pit(Vm &vm, const kvm_pit_state2 &state)
{
	TRY(pit_of(vm))->set(state);
	return {};
}

Result<> control_reinjection(Vm &vm, const kvm_reinject_control &control)
{
	TRY(pit_of(vm))->set_reinject(control.pit_reinject);
	return {};
}

Result<> set_routing(Vm &vm, unsigned long argument)
{
	const auto header = TRY(host::user_get<kvm_irq_routing>(Hva{argument}));
	if (!vm.interrupts.has_lapics() || header.nr > machine::RoutingTable::max_routes || header.flags)
		return fail(EINVAL);
	const auto entries = TRY(get_items<kvm_irq_routing_entry>(
		items_of<kvm_irq_routing, kvm_irq_routing_entry>(argument), header.nr));
	return vm.interrupts.set_routes(entries.span(), vm.wide_apic_ids());
}

// How many took it, as KVM_IRQ_LINE_STATUS counts.
Result<long> signal_msi(Vm &vm, unsigned long argument)
{
	const auto msi = TRY(host::user_get<kvm_msi>(Hva{argument}));
	if (!vm.interrupts.has_lapics() || msi.flags)
		return fail(EINVAL);
	if (vm.wide_apic_ids() && msi.address_hi & 0xff)
		return fail(EINVAL);
	return vm.interrupts.deliver_msi(msi.address_lo | u64{msi.address_hi} << 32, msi.data);
}

Result<> irqfd(Vm &vm, const kvm_irqfd &request)
{
	return request.flags & KVM_IRQFD_FLAG_DEASSIGN ? vm.irqfds.deassign(request)
						       : vm.irqfds.assign(request);
}

} // namespace

long vm_irq_ioctl(Vm &vm, unsigned int command, unsigned long argument)
{
	switch (command) {
	case KVM_CREATE_IRQCHIP: return to_long(vm.create_irqchip());
	case KVM_CREATE_PIT2:
		return to_long(with_input<kvm_pit_config>(
			argument, [&](const auto &config) { return create_pit(vm, config); }));
	case KVM_IRQ_LINE_STATUS:
		return to_long(with_in_out<kvm_irq_level>(
			argument, [&](auto &line) { return irq_line(vm, line); }));
	case KVM_IRQ_LINE:
		return to_long(with_input<kvm_irq_level>(
			argument, [&](kvm_irq_level line) { return irq_line(vm, line); }));
	case KVM_SET_GSI_ROUTING: return to_long(set_routing(vm, argument));
	case KVM_SIGNAL_MSI: return to_long(signal_msi(vm, argument));
	case KVM_IRQFD:
		return to_long(with_input<kvm_irqfd>(
			argument, [&](const auto &request) { return irqfd(vm, request); }));
	case KVM_GET_IRQCHIP:
		return to_long(with_in_out<kvm_irqchip>(
			argument, [&](auto &state) { return get_irqchip(vm, state); }));
	case KVM_SET_IRQCHIP:
		return to_long(with_input<kvm_irqchip>(
			argument, [&](const auto &state) { return set_irqchip(vm, state); }));
	case KVM_GET_PIT2:
		return to_long(with_output<kvm_pit_state2>(
			argument, [&](auto &state) { return get_pit(vm, state); }));
	case KVM_SET_PIT2:
		return to_long(with_input<kvm_pit_state2>(
			argument, [&](const auto &state) { return set_pit(vm, state); }));
	case KVM_REINJECT_CONTROL:
		return to_long(with_input<kvm_reinject_control>(
			argument, [&](const auto &control) { return control_reinjection(vm, control); }));
	default: return -ENOTTY;
	}
}

} // namespace kvmpp::api
