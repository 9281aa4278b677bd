// SPDX-License-Identifier: GPL-2.0-only
// Where the global interrupts (GSIs) of a VM go. KVM API, KVM_SET_GSI_ROUTING.
#pragma once

#include <array>
#include <span>
#include <linux/kvm.h>
#include "host/memory.h"

namespace kvmpp::machine
{

enum class ChipInput : u8 { pic, ioapic };

struct Route {
	enum class Kind : u8 { chip, msi };

	u32 gsi = 0;
	Kind kind = Kind::chip;
	ChipInput chip = ChipInput::pic; // pin: 0 to 15 of both PICs, 0 to 23 of the I/O APIC
	u8 pin = 0;
	u64 address = 0; // of an MSI
	u32 data = 0;
};

class RoutingTable {
    public:
	static constexpr u32 max_routes = 4096; // as KVM_CAP_IRQ_ROUTING says
	static constexpr u32 no_gsi = ~u32{0};

	explicit RoutingTable(host::Array<Route> sorted_by_gsi);

	// As a PC is wired: GSI n to pin n of either controller that has it.
	static Result<host::Own<RoutingTable>> of_a_pc();
	static Result<host::Own<RoutingTable>> empty();
	// EINVAL for an entry that is not possible; with chips in userspace those of chips are not.
	static Result<host::Own<RoutingTable>> from_user(
		std::span<const kvm_irq_routing_entry> entries, bool chips_here, bool wide_ids);

	std::span<const Route> routes_of(u32 gsi) const;
	std::span<const Route> all() const { return routes_.span(); }
	// The GSI that a chip's pin belongs to, or no_gsi.
	u32 gsi_of(ChipInput chip, u32 pin) const
	{
		return pin < pins ? gsi_of_[static_cast<u8>(chip)][pin] : no_gsi;
	}

    private:
	static constexpr u32 pins = KVM_IOAPIC_NUM_PINS;

	host::Array<Route> routes_;
	std::array<std::array<u32, pins>, 2> gsi_of_;
};

} // namespace kvmpp::machine
