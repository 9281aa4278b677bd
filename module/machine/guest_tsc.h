// SPDX-License-Identifier: GPL-2.0-only
// A vCPU's time-stamp counter: the host's, at another rate (SDM vol. 3, 25.6.5) and shifted. Belongs
// to the vCPU's thread.
#pragma once

#include "host/result.h"
#include "host/seam.h"
#include "host/types.h"
#include "x86/devices/lapic_timer.h"

namespace kvmpp::machine
{

class GuestTsc {
    public:
	// As a factor with 48 fractional bits.
	static constexpr u64 same_rate = bit(48);
	static constexpr u32 tolerated_ppm = 250;
	// The largest rate that a factor can express.
	static u32 max_khz(u32 host_khz)
	{
		const u64 khz = u64{host_khz} << 15;
		return khz > 0x7fffffff ? 0x7fffffff : static_cast<u32>(khz);
	}
	// Whether a processor that cannot scale keeps this rate well enough.
	static bool close_enough(u32 khz, u32 host_khz)
	{
		const u64 difference = khz > host_khz ? khz - host_khz : host_khz - khz;
		return difference * 1'000'000 <= u64{host_khz} * tolerated_ppm;
	}

	// What the VMM has asked for, and what the guest gets: a rate close enough is not scaled to.
	u32 khz() const { return khz_; }
	u32 real_khz() const { return factor_ == same_rate ? kvmpp_tsc_khz() : khz_; }
	u64 factor() const { return factor_; }
	u64 offset() const { return offset_; }

	u64 scaled(u64 ticks) const
	{
		return factor_ == same_rate ? ticks : multiplied(ticks);
	}
	// So many ticks of the guest's in those of the host's, up to a bound far above what a timer of the
	// processor can count.
	u64 host_ticks(u64 ticks) const
	{
		if (factor_ == same_rate)
			return ticks;
		constexpr u64 most = bit(40);
		return (ticks < most ? ticks : most) * kvmpp_tsc_khz() / khz_;
	}
	u64 at(u64 host_tsc) const { return scaled(host_tsc) + offset_; }
	u64 now() const { return at(kvmpp_tsc()); }
	// With which the TSC reads `value` now.
	u64 offset_for(u64 value) const { return value - scaled(kvmpp_tsc()); }
	x86::TscMoment moment() const { return {now(), kvmpp_monotonic_ns(), x86::tsc_tick(real_khz())}; }
	// For the VMCS. A sleep of the machine adjusts the host's TSC.
	u64 raw_offset() const { return offset_ + scaled(kvmpp_tsc_adjustment()); }

	// It starts from zero at that time of the host's TSC.
	void start(u64 host_tsc)
	{
		start_ = host_tsc;
		set_offset(-scaled(host_tsc));
	}
	void set_offset(u64 offset)
	{
		offset_ = offset;
		changed_ = true;
	}
	// Time goes on from what it reads, or from the start if it was never set. EINVAL: the
	// processor cannot scale, and this is not its rate.
	Result<> set_khz(u32 khz, bool can_scale)
	{
		const u32 host_khz = kvmpp_tsc_khz();
		if (!can_scale) {
			if (!close_enough(khz, host_khz))
				return fail(EINVAL);
			khz_ = khz;
			return {};
		}
		if (khz == 0 || khz >= max_khz(host_khz))
			return fail(EINVAL);
		const bool untouched = offset_ == -scaled(start_);
		const u64 host_now = kvmpp_tsc(), before = at(host_now);
		khz_ = khz;
		factor_ = factor_of(khz, host_khz);
		set_offset(untouched ? -scaled(start_) : before - scaled(host_now));
		return {};
	}
	// Until it is taken, the VMCS has to learn of a change.
	bool changed() const { return changed_; }
	bool take_changed() { return std::exchange(changed_, false); }

    private:
	// Apart: a number of 128 bits makes every function that it is in align its stack.
	[[gnu::noinline]] u64 multiplied(u64 ticks) const
	{
		return static_cast<u64>(static_cast<unsigned __int128>(ticks) * factor_ >> 48);
	}
	// khz * 2^48 / host_khz in steps of 64 bits.
	static constexpr u64 factor_of(u64 khz, u64 host_khz)
	{
		const u64 high = (khz % host_khz << 24) / host_khz, rest = (khz % host_khz << 24) % host_khz;
		return (khz / host_khz << 48) + (high << 24) + (rest << 24) / host_khz;
	}

	u32 khz_ = kvmpp_tsc_khz();
	u64 factor_ = same_rate;
	u64 offset_ = 0, start_ = 0;
	bool changed_ = false;
};

} // namespace kvmpp::machine
