// SPDX-License-Identifier: GPL-2.0-only
#include "machine/routing.h"

#include <algorithm>

namespace kvmpp::machine
{
namespace
{

constexpr u32 pic_pins = 8;

Result<Route> route_of(const kvm_irq_routing_entry &entry, bool chips_here, bool wide_ids)
{
	Route route{.gsi = entry.gsi};
	switch (entry.type) {
	case KVM_IRQ_ROUTING_IRQCHIP: {
		if (!chips_here || entry.flags)
			return fail(EINVAL);
		const auto &pin = entry.u.irqchip;
		const bool is_ioapic = pin.irqchip == KVM_IRQCHIP_IOAPIC;
		if (pin.irqchip > KVM_IRQCHIP_IOAPIC ||
			pin.pin >= (is_ioapic ? u32{KVM_IOAPIC_NUM_PINS} : pic_pins))
			return fail(EINVAL);
		route.chip = is_ioapic ? ChipInput::ioapic : ChipInput::pic;
		route.pin = static_cast<u8>(
			pin.pin + (pin.irqchip == KVM_IRQCHIP_PIC_SLAVE ? pic_pins : 0));
		return route;
	}
	case KVM_IRQ_ROUTING_MSI:
		if (entry.flags & ~u32{KVM_MSI_VALID_DEVID})
			return fail(EINVAL);
		// The high word holds the upper bits of a 32-bit destination, and nothing else.
		if (wide_ids && entry.u.msi.address_hi & 0xff)
			return fail(EINVAL);
		route.kind = Route::Kind::msi;
		route.address = entry.u.msi.address_lo | u64{entry.u.msi.address_hi} << 32;
		route.data = entry.u.msi.data;
		return route;
	default: return fail(EINVAL);
	}
}

// A GSI goes to each chip once, or to one MSI and nowhere else.
bool compatible(const Route &a, const Route &b)
{
	return a.kind == Route::Kind::chip && b.kind == Route::Kind::chip && a.chip != b.chip;
}

} // namespace

RoutingTable::RoutingTable(host::Array<Route> sorted) : routes_{std::move(sorted)}
{
	for (auto &chip : gsi_of_)
		chip.fill(no_gsi);
	for (const Route &route : routes_)
		if (route.kind == Route::Kind::chip)
			gsi_of_[static_cast<u8>(route.chip)][route.pin] = route.gsi;
}

Result<host::Own<RoutingTable>> RoutingTable::of_a_pc()
{
	constexpr u32 both = 2 * pic_pins;
	auto routes = TRY(host::Array<Route>::create(both + pins));
	Route *out = routes.begin();
	for (u32 gsi = 0; gsi < pins; ++gsi) {
		if (gsi < both)
			*out++ = {.gsi = gsi, .chip = ChipInput::pic, .pin = static_cast<u8>(gsi)};
		*out++ = {.gsi = gsi, .chip = ChipInput::ioapic, .pin = static_cast<u8>(gsi)};
	}
	return host::make<RoutingTable>(std::move(routes));
}

Result<host::Own<RoutingTable>> RoutingTable::empty()
{
	return host::make<RoutingTable>(host::Array<Route>{});
}

Result<host::Own<RoutingTable>> RoutingTable::from_user(std::span<const kvm_irq_routing_entry> entries,
	bool chips_here, bool wide_ids)
{
	if (entries.size() > max_routes)
		return fail(EINVAL);
	auto routes = TRY(host::Array<Route>::create(entries.size()));
	for (usize i = 0; i < entries.size(); ++i) {
		if (entries[i].gsi >= max_routes)
			return fail(EINVAL);
		routes[i] = TRY(route_of(entries[i], chips_here, wide_ids));
	}
	std::ranges::sort(routes.span(), {}, &Route::gsi);
	// Routes of one GSI are neighbours now; three cannot all differ.
	for (usize i = 1; i < routes.size(); ++i) {
		const bool same = routes[i].gsi == routes[i - 1].gsi;
		const bool third = i > 1 && routes[i].gsi == routes[i - 2].gsi;
		if ((same && !compatible(routes[i], routes[i - 1])) || third)
			return fail(EINVAL);
	}
	return host::make<RoutingTable>(std::move(routes));
}

std::span<const Route> RoutingTable::routes_of(u32 gsi) const
{
	const auto found = std::ranges::equal_range(routes_, gsi, {}, &Route::gsi);
	return {found.begin(), found.end()};
}

} // namespace kvmpp::machine
