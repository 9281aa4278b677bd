// SPDX-License-Identifier: GPL-2.0-only
// One counter of an 8254, as a function of time: nothing runs, everything is computed when asked.
// Its clock is 1.193182 MHz; `now` is the host's monotonic clock in nanoseconds.
#pragma once

#include <linux/kvm.h>
#include "host/types.h"

namespace kvmpp::x86
{

namespace pit_clock
{

inline constexpr u64 hz = 1'193'182, second = 1'000'000'000;

// Whole ticks in a time; and the time after which that many ticks have passed. Split so that
// neither overflows.
constexpr u64 ticks_in(u64 ns)
{
	return ns / second * hz + ns % second * hz / second;
}
constexpr u64 time_of(u64 ticks)
{
	return ticks / hz * second + (ticks % hz * second + hz - 1) / hz;
}

} // namespace pit_clock

class PitChannel {
public:
	// The rising edges of OUT: one `first` ticks after base, then one every `period` ticks if
	// that is not 0. No first: none.
	struct Edges {
		u64 base = 0;
		u64 first = 0;
		u32 period = 0;
	};

	// A channel whose gate is tied high, or starts low.
	explicit PitChannel(bool gate) : gate_{gate} {}

	// The low six bits of a control word for this channel, which is not a latch command.
	void control(u8 word);
	void latch_count(u64 now);
	void latch_status(u64 now);
	// True when what edges() says may have changed.
	bool write(u8 value, u64 now);
	u8 read(u64 now);

	bool gate() const { return gate_; }
	void set_gate(bool gate, u64 now);
	bool out(u64 now);
	Edges edges(u64 now);

	void get(kvm_pit_channel_state &state) const;
	// Starts counting anew, as KVM does: the clocks of two hosts have nothing in common.
	void set(const kvm_pit_channel_state &state, u64 now);

private:
	// Which byte comes next; the numbers of kvm_pit_channel_state.
	enum Turn : u8 { none, low, high, low_of_two, high_of_two };

	u64 elapsed(u64 now) const;
	void settle(u64 now);
	void load(u64 now);
	bool programmed(u16 raw, u64 now);
	u16 count(u64 now) const;
	u16 encode(u64 value) const;
	u32 decode(u16 raw) const;
	bool periodic() const { return mode_ == 2 || mode_ == 3; }
	bool triggered_by_gate() const { return mode_ == 1 || mode_ == 5; }
	u64 modulus() const { return bcd_ ? 10'000 : 0x10000; }

	u64 loaded_at_ = 0;
	u64 stopped_at_ = 0; // while the gate holds the counter
	u64 reload_at_ = 0;  // ticks after loaded_at_ when a count that waits is loaded
	u32 reload_ = 0;     // the count register: what is loaded next
	u32 counting_ = 0;   // what was loaded last; 0: not counting
	u16 latched_count_ = 0;
	Turn latched_ = none; // bytes of latched_count_ yet to be read
	bool status_latched_ = false;
	u8 status_ = 0;
	Turn read_turn_ = low_of_two, write_turn_ = low_of_two;
	u8 write_latch_ = 0;
	u8 access_ = 3; // bits 5:4 of the control word
	u8 mode_ = unprogrammed;
	bool bcd_ = false;
	bool gate_;
	bool stopped_ = false;

	static constexpr u8 unprogrammed = 0xff; // KVM's word for it
};

} // namespace kvmpp::x86
