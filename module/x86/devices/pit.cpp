// SPDX-License-Identifier: GPL-2.0-only
// The programmable interval timer: ports, and interrupts from channel 0.
#include "x86/devices/pit.h"

#include <algorithm>
#include "host/speculation.h"

namespace kvmpp::x86
{

namespace
{
constexpr u16 first_port = 0x40, control_port = 0x43, speaker_port = 0x61;
constexpr unsigned speaker_channel = 2;
} // namespace

Pit::Pit(Callback<int(bool level)> irq0, u64 min_period)
	: irq0_{irq0}, min_ticks_{static_cast<u32>(pit_clock::ticks_in(min_period) + 1)},
	  timer_{&Pit::tick, this}
{}

u8 Pit::read(u16 port)
{
	return state_.with([port](State &state) -> u8 {
		const u64 now = host::monotonic_ns();
		if (port >= first_port && port < control_port)
			return state.channels[clamped(port - first_port, 3)].read(now);
		if (port != speaker_port)
			return 0;
		// Bit 4 toggles with the memory refresh, every 15 us or so.
		PitChannel &channel = state.channels[speaker_channel];
		return channel.gate() | state.speaker << 1 | (now >> 14 & 1) << 4 |
		       channel.out(now) << 5;
	});
}

void Pit::write(u16 port, u8 value)
{
	state_.with([&](State &state) {
		const u64 now = host::monotonic_ns();
		if (port == speaker_port) {
			state.speaker = value >> 1 & 1;
			state.channels[speaker_channel].set_gate(value & 1, now);
		} else if (port == control_port) {
			command(state, value, now);
		} else if (port >= first_port && port < control_port) {
			if (state.channels[port - first_port].write(value, now) &&
				port == first_port)
				arm(state, now);
		}
	});
}

void Pit::command(State &state, u8 word, u64 now)
{
	const unsigned selected = word >> 6;
	if (selected == 3) {
		// Read-back: bits 5 and 4 low latch count and status, bits 3 to 1 select.
		for (unsigned i = 0; i < 3; ++i) {
			if (!(word & 2 << i))
				continue;
			if (!(word & 0x20))
				state.channels[i].latch_count(now);
			if (!(word & 0x10))
				state.channels[i].latch_status(now);
		}
		return;
	}
	PitChannel &channel = state.channels[clamped(selected, 3)];
	if (!(word & 0x30)) {
		channel.latch_count(now);
		return;
	}
	channel.control(word);
	if (selected == 0)
		arm(state, now);
}

// Makes the host timer follow channel 0. The mutex is held.
void Pit::arm(State &state, u64 now)
{
	timer_.cancel();
	const PitChannel::Edges edges =
		state.hpet_legacy ? PitChannel::Edges{} : state.channels[0].edges(now);
	const u64 expiry = ticks_.with([&](Ticks &ticks) -> u64 {
		ticks.forget();
		ticks.edges = edges;
		if (!edges.first)
			return 0;
		if (edges.period)
			ticks.edges.period = std::max(edges.period, min_ticks_);
		ticks.next = edges.first;
		if (edges.base + pit_clock::time_of(ticks.next) <= now && edges.period)
			ticks.next += ticks.edges.period;
		return edges.base + pit_clock::time_of(ticks.next);
	});
	if (expiry)
		timer_.start(expiry);
}

// Whether an interrupt is to be raised now.
bool Pit::Ticks::take()
{
	if (!pending || !acknowledged)
		return false;
	--pending;
	acknowledged = false;
	return true;
}

void Pit::Ticks::forget()
{
	pending = 0;
	acknowledged = true;
}

u64 Pit::tick(void *context, u64 now)
{
	auto &self = *static_cast<Pit *>(context);
	bool due = false;
	const u64 next = self.advance(now, due);
	if (due)
		self.pulse();
	return next;
}

// Counts the edges up to now, in one step however many they are, and returns when the next one is.
u64 Pit::advance(u64 now, bool &due)
{
	return ticks_.with([&](Ticks &ticks) -> u64 {
		const u64 period = ticks.edges.period;
		u64 edges = 1;
		if (period) {
			const u64 passed = pit_clock::ticks_in(now - ticks.edges.base);
			if (passed > ticks.next)
				edges += (passed - ticks.next) / period;
			ticks.next += edges * period;
		}
		if (ticks.reinject) {
			ticks.pending += edges;
			due = ticks.take();
		} else {
			due = true;
		}
		return period ? ticks.edges.base + pit_clock::time_of(ticks.next) : 0;
	});
}

void Pit::pulse()
{
	const int result = irq0_(true);
	irq0_(false);
	// Masked everywhere: no acknowledgement will come, and nobody misses the tick.
	if (result < 0)
		ticks_.with([](Ticks &ticks) { ticks.forget(); });
}

void Pit::acknowledged()
{
	const bool due = ticks_.with([](Ticks &ticks) {
		ticks.acknowledged = true;
		return ticks.take();
	});
	if (due)
		pulse();
}

void Pit::set_reinject(bool reinject)
{
	ticks_.with([reinject](Ticks &ticks) {
		ticks.reinject = reinject;
		ticks.forget();
	});
}

void Pit::reset()
{
	state_.with([this](State &state) {
		state = {};
		arm(state, 0);
	});
}

void Pit::get(kvm_pit_state2 &out)
{
	out = {};
	state_.with([&out](const State &state) {
		for (unsigned i = 0; i < 3; ++i)
			state.channels[i].get(out.channels[i]);
		out.flags = (state.hpet_legacy ? KVM_PIT_FLAGS_HPET_LEGACY : 0) |
			    (state.speaker ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
	});
}

void Pit::set(const kvm_pit_state2 &in)
{
	state_.with([&](State &state) {
		const u64 now = host::monotonic_ns();
		state.hpet_legacy = in.flags & KVM_PIT_FLAGS_HPET_LEGACY;
		state.speaker = in.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
		for (unsigned i = 0; i < 3; ++i) {
			kvm_pit_channel_state channel = in.channels[i];
			channel.gate |= i != speaker_channel;
			state.channels[i].set(channel, now);
		}
		arm(state, now);
	});
}

} // namespace kvmpp::x86
