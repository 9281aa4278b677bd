// SPDX-License-Identifier: GPL-2.0-only
// Counters of a vCPU and of a VM, each with a name: one table serves debugfs and KVM_GET_STATS_FD.
#pragma once

#include <array>
#include "host/seam.h"
#include "host/types.h"
#include "vmx/exit_reason.h"

namespace kvmpp::machine
{

enum class VcpuCounter : u8 {
	entries,
	exits,
	exits_to_user,
	signals,
	halts,
	events_injected,
	instructions_emulated,
	page_faults,
	halt_attempted_poll,
	halt_successful_poll,
	halt_wakeup,
	async_page_faults,
	async_pages_ready,
	exits_by_reason, // from here on, see exit_reasons in statistics.cpp
};

enum class VmCounter : u8 {
	remote_tlb_flushes,
	invalidations,
	mapped_4k,
	mapped_2m,
	mapped_1g,
	count,
};

// Written by the vCPU's thread alone; others may read.
class VcpuStatistics {
    public:
	static constexpr unsigned known_reasons = 62;
	// And one for those that are not known.
	static constexpr unsigned other = static_cast<unsigned>(VcpuCounter::exits_by_reason) + known_reasons;
	static constexpr unsigned count = other + 1;

	void add(VcpuCounter counter) { ++values_[static_cast<u8>(counter)]; }
	void add_exit(vmx::ExitReason reason)
	{
		add(VcpuCounter::exits);
		++values_[slot_of(reason)];
	}
	u64 operator[](VcpuCounter counter) const { return values_[static_cast<u8>(counter)]; }
	kvmpp_counters counters() const;

    private:
	static unsigned slot_of(vmx::ExitReason reason)
	{
		const auto number = static_cast<u16>(reason);
		return number < slots.size() ? slots[number] : other;
	}
	static const std::array<u8, 80> slots; // from a reason's number to its counter

	std::array<u64, count> values_{};
};

// Written by any thread.
class VmStatistics {
    public:
	void add(VmCounter counter)
	{
		__atomic_fetch_add(&values_[static_cast<u8>(counter)], 1, __ATOMIC_RELAXED);
	}
	kvmpp_counters counters() const;

    private:
	std::array<u64, static_cast<u8>(VmCounter::count)> values_{};
};

} // namespace kvmpp::machine
