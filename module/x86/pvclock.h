// SPDX-License-Identifier: GPL-2.0-only
// What a guest reads of kvmclock in its own memory. Linux documentation, virt/kvm/x86/msr.rst.
#pragma once

#include "host/types.h"

namespace kvmpp::x86
{

// Behind MSR_KVM_SYSTEM_TIME_NEW. `version` is odd while the rest changes.
struct PvclockTime {
	u32 version = 0;
	u32 padding = 0;
	u64 tsc_timestamp = 0;
	u64 system_time = 0;
	u32 tsc_to_system_mul = 0;
	s8 tsc_shift = 0;
	u8 flags = 0;
	u8 reserved[2] = {};

	static constexpr u8 tsc_stable = 1 << 0, guest_stopped = 1 << 1;
};
static_assert(sizeof(PvclockTime) == 32);

// Behind MSR_KVM_WALL_CLOCK_NEW: real time at the zero of system_time.
struct PvclockWall {
	u32 version = 0;
	u32 seconds = 0;
	u32 nanoseconds = 0;
};
static_assert(sizeof(PvclockWall) == 12);

} // namespace kvmpp::x86
