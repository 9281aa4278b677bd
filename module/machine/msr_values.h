// SPDX-License-Identifier: GPL-2.0-only
// MSRs of a guest that are values and nothing more: kvmpp keeps them and acts on none, or acts when
// they are written. Those that the processor holds are elsewhere (GuestState, ResidentMsrs).
#pragma once

#include <array>
#include "host/types.h"

namespace kvmpp::machine
{

struct Mtrrs {
	static constexpr unsigned variable_count = 8;
	// Power-up: everything uncacheable and MTRRs off; firmware, or the VMM, says more.
	u64 default_type = 0;
	std::array<u64, 11> fixed{};
	std::array<u64, 2 * variable_count> variable{};
};

struct MsrValues {
	u64 cstar = 0;
	u64 misc_enable = 0, microcode_revision = u64{1} << 32;
	u64 feature_control = 0, arch_capabilities = 0, platform_info = 0;
	u64 poll_control = 1; // KVM_FEATURE_POLL_CONTROL: bit 0 says that halts are to be polled for here
	u64 tsc_adjust = 0, xss = 0, power_ctl = 0;
	// kvmclock: a guest-physical address with bit 0 as enable.
	u64 system_time = 0, wall_clock = 0;
	bool was_stopped = false; // KVM_KVMCLOCK_CTRL: the guest is to be told
	Mtrrs mtrrs{};
};

} // namespace kvmpp::machine
