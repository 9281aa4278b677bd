// SPDX-License-Identifier: GPL-2.0-only
// One counter of an 8254. Modes and their figures are those of the Intel 8254 data sheet.
#include "x86/devices/pit_channel.h"

#include <algorithm>
#include <utility>

namespace kvmpp::x86
{

// A count of 0 is the largest one.
u32 PitChannel::decode(u16 raw) const
{
	u32 value = raw;
	if (bcd_)
		value = (raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 +
			(raw & 15);
	return value ? value : static_cast<u32>(modulus());
}

u16 PitChannel::encode(u64 value) const
{
	if (!bcd_)
		return static_cast<u16>(value);
	u16 digits = 0;
	for (unsigned shift = 0; shift < 16; shift += 4, value /= 10)
		digits |= value % 10 << shift;
	return digits;
}

u64 PitChannel::elapsed(u64 now) const
{
	const u64 end = stopped_ ? stopped_at_ : now;
	return end > loaded_at_ ? pit_clock::ticks_in(end - loaded_at_) : 0;
}

// Begins to count from the count register.
void PitChannel::load(u64 now)
{
	loaded_at_ = now;
	counting_ = reload_;
	stopped_ = !gate_ && !triggered_by_gate();
	stopped_at_ = now;
}

// In modes 2 and 3 a new count waits for the end of the period. (In mode 3 the chip takes it at the
// end of the half already.)
void PitChannel::settle(u64 now)
{
	if (!periodic() || !counting_ || counting_ == reload_)
		return;
	if (stopped_ || elapsed(now) < reload_at_)
		return;
	loaded_at_ += pit_clock::time_of(reload_at_);
	counting_ = reload_;
}

void PitChannel::control(u8 word)
{
	access_ = word >> 4 & 3;
	const u8 mode = word >> 1 & 7;
	mode_ = mode > 5 ? mode & 3 : mode;
	bcd_ = word & 1;
	read_turn_ = write_turn_ = access_ == 3 ? low_of_two : static_cast<Turn>(access_);
	latched_ = none;
	status_latched_ = false;
	// OUT takes its initial state, and counting waits for a count.
	counting_ = 0;
	stopped_ = false;
}

bool PitChannel::write(u8 value, u64 now)
{
	switch (write_turn_) {
	case low: return programmed(value, now);
	case high: return programmed(static_cast<u16>(value << 8), now);
	case high_of_two:
		write_turn_ = low_of_two;
		return programmed(static_cast<u16>(value << 8 | write_latch_), now);
	default: break;
	}
	write_turn_ = high_of_two;
	write_latch_ = value;
	// In mode 0 the first byte of two stops the count.
	if (mode_ != 0)
		return false;
	counting_ = 0;
	return true;
}

bool PitChannel::programmed(u16 raw, u64 now)
{
	settle(now);
	reload_ = decode(raw);
	if (mode_ == unprogrammed)
		return false;
	if (periodic() && counting_) {
		reload_at_ = (elapsed(now) / counting_ + 1) * counting_;
		return true;
	}
	if (!triggered_by_gate())
		load(now);
	return true;
}

void PitChannel::set_gate(bool gate, u64 now)
{
	if (gate == gate_)
		return;
	settle(now);
	gate_ = gate;
	if (triggered_by_gate() || periodic()) {
		if (gate && reload_ && (counting_ || triggered_by_gate()))
			load(now);
		else if (!gate && periodic()) {
			stopped_ = true;
			stopped_at_ = now;
		}
		return;
	}
	if (gate && stopped_)
		loaded_at_ += now - stopped_at_;
	stopped_ = !gate;
	stopped_at_ = now;
}

bool PitChannel::out(u64 now)
{
	settle(now);
	if (!counting_)
		return mode_ != 0;
	const u64 ticks = elapsed(now);
	switch (mode_) {
	case 0:
	case 1: return ticks >= counting_;
	case 2: return stopped_ || ticks % counting_ != counting_ - 1;
	case 3: return stopped_ || ticks % counting_ < (counting_ + 1) / 2;
	default: return ticks != counting_;
	}
}

u16 PitChannel::count(u64 now) const
{
	if (!counting_)
		return encode(reload_ % modulus());
	const u64 ticks = elapsed(now);
	u64 value;
	switch (mode_) {
	case 2: value = counting_ - ticks % counting_; break;
	case 3: {
		// By two, and twice in a period; of an odd count the low half is one tick shorter.
		const u64 phase = ticks % counting_, half = (counting_ + 1) / 2;
		value = (counting_ & ~1u) - 2 * (phase < half ? phase : phase - half);
		break;
	}
	default: value = counting_ + modulus() - ticks % modulus(); break;
	}
	return encode(value % modulus());
}

PitChannel::Edges PitChannel::edges(u64 now)
{
	settle(now);
	if (!counting_ || stopped_)
		return {};
	switch (mode_) {
	case 0: return {loaded_at_, counting_, 0};
	case 2:
	case 3: {
		// While a new count waits, the old one's edges are those up to its reload.
		const bool waits = counting_ != reload_;
		return {loaded_at_, waits ? reload_at_ : counting_, reload_};
	}
	// The strobe is low for the tick of terminal count.
	case 4: return {loaded_at_, counting_ + 1, 0};
	default: return {};
	}
}

void PitChannel::latch_count(u64 now)
{
	settle(now);
	if (latched_ != none)
		return;
	latched_count_ = count(now);
	latched_ = access_ == 3 ? low_of_two : static_cast<Turn>(access_);
}

void PitChannel::latch_status(u64 now)
{
	if (status_latched_)
		return;
	const bool null_count = !counting_ || counting_ != reload_;
	status_ = out(now) << 7 | null_count << 6 | (access_ & 3) << 4 | (mode_ & 7) << 1 | bcd_;
	status_latched_ = true;
}

u8 PitChannel::read(u64 now)
{
	if (status_latched_) {
		status_latched_ = false;
		return status_;
	}
	settle(now);
	const auto byte = [](u16 value, bool upper) -> u8 { return value >> (upper ? 8 : 0); };
	switch (latched_) {
	case low:
	case high: return byte(latched_count_, std::exchange(latched_, none) == high);
	case low_of_two: latched_ = high_of_two; return byte(latched_count_, false);
	case high_of_two: latched_ = none; return byte(latched_count_, true);
	case none: break;
	}
	switch (read_turn_) {
	case high: return byte(count(now), true);
	case low_of_two: read_turn_ = high_of_two; return byte(count(now), false);
	case high_of_two: read_turn_ = low_of_two; return byte(count(now), true);
	default: return byte(count(now), false);
	}
}

void PitChannel::get(kvm_pit_channel_state &state) const
{
	state = {
		.count = reload_,
		.latched_count = latched_count_,
		.count_latched = latched_,
		.status_latched = status_latched_,
		.status = status_,
		.read_state = read_turn_,
		.write_state = write_turn_,
		.write_latch = write_latch_,
		.rw_mode = access_,
		.mode = mode_,
		.bcd = bcd_,
		.gate = gate_,
		.count_load_time = static_cast<__s64>(loaded_at_),
	};
}

void PitChannel::set(const kvm_pit_channel_state &state, u64 now)
{
	const auto turn = [](u8 value, Turn otherwise) {
		return value <= high_of_two ? static_cast<Turn>(value) : otherwise;
	};
	latched_count_ = state.latched_count;
	latched_ = turn(state.count_latched, none);
	status_latched_ = state.status_latched;
	status_ = state.status;
	read_turn_ = turn(state.read_state, low_of_two);
	write_turn_ = turn(state.write_state, low_of_two);
	write_latch_ = state.write_latch;
	access_ = state.rw_mode & 3 ? state.rw_mode & 3 : 3;
	mode_ = state.mode > 7 ? unprogrammed : state.mode > 5 ? state.mode & 3 : state.mode;
	bcd_ = state.bcd;
	gate_ = state.gate;
	// 0 is the largest count here too. Regression of CVE-2015-7513: none is ever divided by.
	reload_ = std::min<u32>(state.count ? state.count : 0x10000, static_cast<u32>(modulus()));
	counting_ = 0;
	stopped_ = false;
	if (mode_ != unprogrammed && !triggered_by_gate())
		load(now);
}

} // namespace kvmpp::x86
