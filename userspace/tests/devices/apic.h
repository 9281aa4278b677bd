// SPDX-License-Identifier: GPL-2.0-only
// A local APIC on the simulated host, as the tests drive it.
#pragma once

#include <gtest/gtest.h>
#include "sim/clock.h"
#include "sim/host.h"
#include "x86/devices/lapic.h"

namespace kvmpp::tests
{

using namespace kvmpp::x86;
using sim::clock;
using Kind = Lapic::Effect::Kind;

inline constexpr u64 ms = 1'000'000;

// MSR of a register in x2APIC mode.
constexpr u32 msr(ApicRegister name)
{
	return 0x800 + static_cast<u32>(name) / 16;
}

struct Apic {
	unsigned wakes = 0;
	host::Own<Lapic> lapic;

	explicit Apic(u32 id = 0, bool x2apic = false)
	{
		auto made = Lapic::create(
			id, {[](void *self) { ++static_cast<Apic *>(self)->wakes; }, this});
		EXPECT_TRUE(made.has_value());
		lapic = std::move(*made);
		lapic->set_features({.x2apic = true, .tsc_deadline = true});
		if (x2apic) {
			EXPECT_TRUE(lapic->set_base(lapic->base() | apic_base::x2apic, 36, false));
		}
	}
	Apic(const Apic &) = delete;

	Lapic *operator->() { return lapic.get(); }
	Lapic &operator*() { return *lapic; }

	u32 read(ApicRegister name)
	{
		if (lapic->x2apic_enabled())
			return static_cast<u32>(lapic->read_msr(msr(name)).value());
		return static_cast<u32>(lapic->read_mmio(static_cast<u32>(name), 4));
	}
	Lapic::Effect write(ApicRegister name, u64 value)
	{
		if (lapic->x2apic_enabled())
			return lapic->write_msr(msr(name), value);
		return lapic->write_mmio(static_cast<u32>(name), 4, value);
	}
	// SVR as an operating system sets it.
	void enable() { write(ApicRegister::svr, 0x1ff); }

	int post(u8 vector, bool level = false)
	{
		return lapic->accept({.vector = vector, .level = level});
	}
	// What the vCPU would be given now, 0: nothing.
	u8 pending()
	{
		lapic->collect();
		return lapic->injectable().value_or(0);
	}
	// The vCPU takes an interrupt if it can.
	u8 take()
	{
		const u8 vector = pending();
		if (vector)
			lapic->acknowledge(vector);
		return vector;
	}
	u8 eoi()
	{
		const auto ended = lapic->end_of_interrupt();
		return ended ? ended->vector : 0;
	}
	bool requested(u8 vector)
	{
		lapic->collect();
		return lapic->read_mmio(0x200 + vector / 32 * 16, 4) & 1u << vector % 32;
	}
};

} // namespace kvmpp::tests
