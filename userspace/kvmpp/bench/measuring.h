// SPDX-License-Identifier: GPL-2.0-only
// What the operations have in common: a context, and the median of several batches.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include "kvmpp/bench/bench_guest.h"
#include "lib/system.h"

namespace kvmpp::command
{

struct Context {
	const lib::System &system;
	std::unique_ptr<BenchGuest> present{};

	BenchGuest &guest()
	{
		if (!present)
			present = std::make_unique<BenchGuest>(system);
		return *present;
	}
};

// Ticks of the time-stamp counter for one operation.
using Measure = std::function<lib::u64(Context &)>;

namespace measuring
{

inline constexpr std::size_t batches = 9;
// Short enough that most batches see no timer interrupt of the host.
inline constexpr lib::u64 batch = 64;
inline constexpr lib::u64 page = 4096;
inline constexpr lib::u32 extra_slot = 1;

template <class Batch>
lib::u64 median(Batch &&ticks_of_batch)
{
	std::array<lib::u64, batches> ticks;
	for (lib::u64 &each : ticks)
		each = ticks_of_batch();
	const auto middle = ticks.begin() + batches / 2;
	std::nth_element(ticks.begin(), middle, ticks.end());
	return *middle;
}

} // namespace measuring

// Measured by the guest: a routine of bench/guest.S with its number, and those that need more.
Measure in_guest(const std::byte *routine, lib::u64 argument = 0);
lib::u64 port_write_to_ioeventfd(Context &context);
// Of memory that the host has populated, or not.
Measure ept_fault(bool populated);

// With pages that are logged: the guest's first write to one since its bit was taken, and KVM_GET_DIRTY_LOG
// for each page that is dirty.
lib::u64 logged_write(Context &context);
lib::u64 get_dirty_page(Context &context);

// Measured by this process.
lib::u64 null_ioctl(Context &context);
lib::u64 get_regs(Context &context);
lib::u64 get_sregs(Context &context);
lib::u64 set_sregs(Context &context);
lib::u64 slot_add_delete(Context &context);
lib::u64 machine_create_close(Context &context);
// A machine from nothing to its first instruction, or up to it.
Measure machine_life(bool run);

} // namespace kvmpp::command
