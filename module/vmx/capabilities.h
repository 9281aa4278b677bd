// SPDX-License-Identifier: GPL-2.0-only
// What a processor's VT-x offers, and the control words that kvmpp runs guests with on it.
// SDM vol. 3, appendix A.
#pragma once

#include <expected>
#include "host/result.h"
#include "host/types.h"
#include "vmx/controls.h"

namespace kvmpp::vmx
{

// Control bits a word may have: bits of `fixed` are always set, bits outside `allowed` never.
struct ControlRange {
	u32 fixed = 0, allowed = 0;

	static constexpr ControlRange from_msr(u64 value)
	{
		return {static_cast<u32>(value), static_cast<u32>(value >> 32)};
	}
	constexpr bool operator==(const ControlRange &) const = default;
};

// What an MSR-reading processor says of itself. Reading it changes nothing; any context.
struct Capabilities {
	u32 revision = 0; // VMCS revision identifier
	ControlRange pin{}, primary{}, secondary{}, exit{}, entry{};
	u64 ept_vpid = 0;
	u64 misc = 0;
	u64 cr0_fixed0 = 0, cr0_fixed1 = 0, cr4_fixed0 = 0, cr4_fixed1 = 0;

	constexpr bool operator==(const Capabilities &) const = default;

	bool invept_single() const { return ept_vpid & bit(25); }
	bool invvpid_single() const { return ept_vpid & bit(32) && ept_vpid & bit(41); }
	bool ept_2m() const { return ept_vpid & bit(16); }
	bool ept_1g() const { return ept_vpid & bit(17); }
	bool ept_execute_only() const { return ept_vpid & bit(0); }
	// The VMX-preemption timer counts once in so many TSC ticks, as a power of two.
	unsigned preemption_timer_shift() const { return misc & 0x1f; }
	bool ept_accessed_dirty() const { return ept_vpid & bit(21); }
};

// The control words of a new VMCS.
struct Controls {
	u32 pin = 0, primary = 0, secondary = 0, exit = 0, entry = 0;

	// The processor can deliver interrupts from a virtual-APIC page by itself. Then all the rest of
	// secondary::apic_virtualization is here too.
	bool delivers_interrupts() const { return secondary & secondary::virtual_interrupt_delivery; }
	// It takes the guest's accesses to the registers of an xAPIC, TPR without an exit.
	bool virtualizes_apic_accesses() const { return secondary & secondary::virtual_apic_accesses; }
};

// Why this processor cannot run kvmpp's guests, for the log: names what is missing.
struct Refusal {
	const char *missing;
};

// Of the CPU it runs on. Refuses one without VT-x, or with VT-x locked off by the firmware.
std::expected<Capabilities, Refusal> read_capabilities();

// Checks the capabilities against what kvmpp cannot do without, and picks every optional control it
// knows how to use.
std::expected<Controls, Refusal> choose_controls(const Capabilities &capabilities);

} // namespace kvmpp::vmx
