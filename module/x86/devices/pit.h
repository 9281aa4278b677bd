// SPDX-License-Identifier: GPL-2.0-only
// The programmable interval timer, an 8254, and port 0x61 that gates its speaker channel.
//
// Locks: ports and state are under a mutex, and only there is the host timer cancelled and started,
// so that a callback of the old programming can not meet the new one (CVE-2014-3611). What the
// timer's callback and acknowledged() share is under a spinlock of its own, a leaf: `irq0` is
// called after it is dropped. Lock order: mutex, spinlock.
#pragma once

#include <linux/kvm.h>
#include "host/lock.h"
#include "host/timer.h"
#include "host/types.h"
#include "x86/devices/callback.h"
#include "x86/devices/message.h"
#include "x86/devices/pit_channel.h"

namespace kvmpp::x86
{

class Pit : host::Pinned {
public:
	// As KVM's bound for the local APIC's timer: a guest must not keep the host busy with
	// ticks.
	static constexpr u64 default_min_period = 200'000;

	// `irq0` sets the line of channel 0 and returns what KVM_IRQ_LINE_STATUS would. Any
	// context.
	explicit Pit(Callback<int(bool level)> irq0, u64 min_period = default_min_period);

	// Ports 0x40 to 0x43, 0x61. May sleep.
	u8 read(u16 port);
	void write(u16 port, u8 value);

	// The guest has finished IRQ 0. Any context.
	void acknowledged();

	// KVM_REINJECT_CONTROL: with reinjection a tick that comes while the last one is not yet
	// acknowledged is kept for later; without, it is lost.
	void set_reinject(bool reinject);

	void reset();
	void get(kvm_pit_state2 &state);
	void set(const kvm_pit_state2 &state);

private:
	struct State {
		// Only the speaker's gate can be moved.
		PitChannel channels[3]{PitChannel{true}, PitChannel{true}, PitChannel{false}};
		bool speaker = false;
		bool hpet_legacy = false; // the HPET drives IRQ 0
	};

	// The edges of channel 0 that become interrupts.
	struct Ticks {
		PitChannel::Edges edges;
		u64 next = 0;	 // in ticks from the base
		u64 pending = 0; // edges that wait for the last interrupt's acknowledgement
		bool acknowledged = true;
		bool reinject = true;

		bool take();
		void forget();
	};

	static u64 tick(void *context, u64 now);
	u64 advance(u64 now, bool &due);
	void pulse();
	void arm(State &state, u64 now);
	void command(State &state, u8 word, u64 now);

	Callback<int(bool)> irq0_;
	u32 min_ticks_;
	host::Locked<State, host::LockClass::pit> state_;
	host::Locked<Ticks, host::LockClass::pit_ticks, host::SpinLock> ticks_;
	host::Timer timer_; // last: its destructor waits for the callback
};

} // namespace kvmpp::x86
