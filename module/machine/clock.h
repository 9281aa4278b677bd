// SPDX-License-Identifier: GPL-2.0-only
// The time that a VM's guests are told: kvmclock, one linear function of the host's TSC for all vCPUs
// of the VM, so that they agree to the nanosecond and nothing has to be updated while they run.
#pragma once

#include <linux/kvm.h>
#include "host/lock.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::machine
{

// ns = ((ticks << shift) * mul) >> 32, a negative shift to the right; the form of the pvclock ABI.
struct TscScale {
	u32 mul = 0;
	s8 shift = 0;

	static constexpr TscScale from_khz(u32 khz)
	{
		constexpr u64 ns = 1'000'000'000;
		u64 ticks = khz ? u64{khz} * 1000 : ns;
		s8 shift = 0;
		// The frequency in (ns, 2 ns] makes the multiplier use all its bits.
		for (; ticks > 2 * ns; ticks >>= 1)
			--shift;
		for (; ticks <= ns; ticks <<= 1)
			++shift;
		return {static_cast<u32>((ns << 32) / ticks), shift};
	}

	constexpr u64 to_ns(u64 ticks) const
	{
		const u64 scaled = shift < 0 ? ticks >> -shift : ticks << shift;
		return static_cast<u64>(static_cast<unsigned __int128>(scaled) * mul >> 32);
	}
};

static_assert(TscScale::from_khz(1'000'000).to_ns(1'000'000) > 999'000);
static_assert(TscScale::from_khz(50'000).to_ns(50'000) > 999'990);
static_assert(TscScale::from_khz(3'000'000).to_ns(3'000'000) <= 1'000'000);

class Clock : host::Pinned {
    public:
	// Of struct kvm_clock_data, that mean something here.
	static constexpr u32 known_flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

	struct Reading {
		u64 tsc;	 // of the host, at which
		u64 system_time; // the guest's clock reads this
	};

	Clock()
	{
		reading_.with([](Reading &reading) {
			reading = {kvmpp_tsc(), 0};
		});
	}

	// Whether all vCPUs may rely on their TSCs for it (PVCLOCK_TSC_STABLE_BIT).
	bool stable() const { return stable_; }

	// The point that the function goes through. With an unstable TSC a new one for each call.
	Reading reading()
	{
		return reading_.with([this](Reading &reading) {
			if (!stable_)
				reading = {kvmpp_tsc(), kvmpp_boottime_ns() + boot_offset_};
			return reading;
		});
	}
	u64 now() { return at(kvmpp_tsc()); }
	// What the guest's clock reads when the host's TSC does that, now or a moment ago.
	u64 at(u64 tsc)
	{
		const Reading at = reading();
		// Another CPU's TSC may be a little behind.
		return tsc > at.tsc ? at.system_time + scale_.to_ns(tsc - at.tsc) : at.system_time;
	}
	// KVM_SET_CLOCK; the vCPUs are told by the caller.
	void set(u64 ns)
	{
		reading_.with([&](Reading &reading) {
			reading = {kvmpp_tsc(), ns};
			boot_offset_ = ns - kvmpp_boottime_ns();
		});
	}

    private:
	const bool stable_ = kvmpp_tsc_reliable();
	const TscScale scale_ = TscScale::from_khz(kvmpp_tsc_khz());
	u64 boot_offset_ = -kvmpp_boottime_ns();
	host::Locked<Reading, host::LockClass::clock, host::SpinLock> reading_;
};

} // namespace kvmpp::machine
