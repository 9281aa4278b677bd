// SPDX-License-Identifier: GPL-2.0-only
// The I/O APIC, an 82093AA with 24 pins, as KVM shows it to a guest: version 0x11, no EOI register.
// The polarity bit can be written and does nothing: a line that is raised is active.
//
// Lock order: the lock is a spinlock and a leaf but for Bus::deliver and Bus::vectors_changed, which are
// called under it, in any context, and must not come back here. Bus::acknowledged is called without it,
// and may.
#pragma once

#include <array>
#include <atomic>
#include <optional>
#include <linux/kvm.h>
#include "host/lock.h"
#include "host/timer.h"
#include "host/types.h"
#include "x86/devices/callback.h"
#include "x86/devices/message.h"

namespace kvmpp::x86
{

class Ioapic : host::Pinned {
public:
	static constexpr unsigned pin_count = KVM_IOAPIC_NUM_PINS;
	static constexpr unsigned source_count = 64;
	static constexpr u64 default_base = 0xfec00000;
	static constexpr u64 window = 0x100;

	struct Bus {
		// To the local APICs: how many took the message, or delivery_ignored, _coalesced.
		Callback<int(const Message &)> deliver;
		// The guest has finished the interrupt of this pin. Here a device that samples its
		// line again lowers it.
		Callback<void(unsigned pin)> acknowledged;
		// vectors() has. Called under the lock, in any context.
		Callback<void()> vectors_changed;
	};

	explicit Ioapic(const Bus &bus);

	// Whether a guest-physical address is ours; the offset into the window goes to read, write.
	bool contains(u64 address) const
	{
		return address - base_.load(std::memory_order_relaxed) < window;
	}
	u64 read(u32 offset, unsigned size);
	void write(u32 offset, unsigned size, u64 value);

	// Any context. A line is high while any of its sources holds it. The result is that of
	// KVM_IRQ_LINE_STATUS.
	int set_line(unsigned pin, unsigned source, bool level);
	// Lowers every line of a source that goes away.
	void drop_source(unsigned source);

	// Whether the end of an interrupt with this vector concerns any pin.
	bool handles(u8 vector) const
	{
		return vectors_[vector >> 6].load(std::memory_order_relaxed) & bit(vector & 63);
	}
	// A local APIC has finished `vector`; `broadcast` says that it tells us so, rather than
	// that the machine overheard it (edge-triggered, or suppressed by SVR[12]).
	void end_of_interrupt(u8 vector, bool broadcast);

	// All that it handles().
	std::array<u64, 4> vectors() const;

	void reset();
	void get(kvm_ioapic_state &state);
	void set(const kvm_ioapic_state &state);

private:
	// A redirection table entry, by the data sheet's fields (3.2.4).
	struct Entry {
		u64 raw = masked_bit;

		static constexpr u64 remote_irr_bit = bit(14), level_bit = bit(15),
				     masked_bit = bit(16);
		static constexpr u64 writable =
			bits(11, 0) | bit(13) | level_bit | masked_bit | bits(63, 56);

		constexpr u8 vector() const { return static_cast<u8>(raw); }
		constexpr bool level() const { return raw & level_bit; }
		constexpr bool masked() const { return raw & masked_bit; }
		constexpr bool remote_irr() const { return raw & remote_irr_bit; }
		constexpr void set_remote_irr(bool value)
		{
			raw = value ? raw | remote_irr_bit : raw & ~remote_irr_bit;
		}
		Message message() const;
	};

	struct State {
		u8 selected = 0;
		u8 id = 0;
		u32 lines = 0;	   // pins that are high
		u32 delivered = 0; // edges that were, while their line is still high
		u32 deferred = 0;  // pins that wait for the timer
		Entry entries[pin_count];
		u64 sources[pin_count] = {};
		u16 repeats[pin_count] = {}; // ends of interrupt that found the line still high
	};

	// A driver that never quiets its device would otherwise be in its handler for good, and the
	// VMM get no turn to do something about it.
	static constexpr u16 max_repeats = 10'000;
	static constexpr u64 repeat_delay = 10'000'000;

	static bool ready(const State &state, unsigned pin);
	int service(State &state, unsigned pin);
	int raise(State &state, unsigned pin);
	static std::optional<unsigned> selected_pin(const State &state);
	u32 read_selected(const State &state) const;
	u32 write_selected(State &state, u32 value);
	void resume(unsigned pin);
	void update_vectors(const State &state);
	static u64 tick(void *context, u64 now);

	Bus bus_;
	std::atomic<u64> base_{default_base};
	std::atomic<u64> vectors_[4]{};
	host::Locked<State, host::LockClass::ioapic, host::SpinLock> state_;
	host::Timer timer_; // last: its destructor waits for the callback
};

} // namespace kvmpp::x86
