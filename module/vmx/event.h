// SPDX-License-Identifier: GPL-2.0-only
// An event as VMX describes it: to be injected at entry, delivered by an exit, or under delivery
// when an exit came. SDM vol. 3, 25.8.3, 25.9.2, 25.9.3.
#pragma once

#include "host/types.h"

namespace kvmpp::vmx
{

enum class EventType : u8 {
	external_interrupt = 0,
	nmi = 2,
	hardware_exception = 3,
	software_interrupt = 4,
	privileged_software_exception = 5,
	software_exception = 6,
	other = 7,
};

struct EventInfo {
	u32 raw = 0;

	static constexpr u32 valid_bit = 1u << 31;
	static constexpr u32 error_code_bit = 1u << 11;

	static constexpr EventInfo of(EventType type, u8 vector, bool has_error_code = false)
	{
		return {valid_bit | (has_error_code ? error_code_bit : 0) | u32{static_cast<u8>(type)} << 8 |
			vector};
	}

	constexpr bool valid() const { return raw & valid_bit; }
	constexpr u8 vector() const { return raw & 0xff; }
	constexpr EventType type() const { return static_cast<EventType>(raw >> 8 & 7); }
	constexpr bool has_error_code() const { return raw & error_code_bit; }
	// Bit 12 of an exit's event: IRET had unblocked NMIs before the event came.
	constexpr bool nmi_unblocked_by_iret() const { return raw & (1 << 12); }
	constexpr bool operator==(const EventInfo &) const = default;
};

// Guest interruptibility state (SDM vol. 3, 25.4.2).
namespace blocking
{
inline constexpr u32 sti = 1 << 0, mov_ss = 1 << 1, smi = 1 << 2, nmi = 1 << 3;
}

} // namespace kvmpp::vmx
