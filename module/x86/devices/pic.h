// SPDX-License-Identifier: GPL-2.0-only
// The pair of 8259A interrupt controllers of a PC, with the edge/level registers of its bridge.
// As in KVM a rising edge is latched until it is taken, whether or not the line stays high.
//
// Lock order: the lock is a spinlock and a leaf but for Lines::output, which is called under it, in
// any context, and must not come back here. Lines::acknowledged is called without it, and may.
#pragma once

#include <atomic>
#include <optional>
#include <linux/kvm.h>
#include "host/lock.h"
#include "host/types.h"
#include "x86/devices/callback.h"
#include "x86/devices/pic_chip.h"

namespace kvmpp::x86
{

class Pic : host::Pinned {
public:
	static constexpr unsigned line_count = 16;
	static constexpr unsigned source_count = 64;

	struct Lines {
		// INTR of the pair has changed.
		Callback<void(bool level)> output;
		// The guest has finished this interrupt, or forgotten it by a reset.
		Callback<void(unsigned line)> acknowledged;
	};

	explicit Pic(const Lines &lines);

	// Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1; a read of any other gives 0xff.
	u8 read(u16 port);
	void write(u16 port, u8 value);

	// Any context. A line is high while any of its sources holds it. The result is that of
	// KVM_IRQ_LINE_STATUS.
	int set_line(unsigned line, unsigned source, bool level);
	void drop_source(unsigned source);

	bool output() const { return output_.load(std::memory_order_relaxed); }
	// The processor's interrupt acknowledge: the vector, spurious if the request is gone.
	u8 acknowledge();

	void reset();
	// Chip 0 is the master, 1 the slave: KVM_IRQCHIP_PIC_MASTER and _SLAVE.
	void get(unsigned chip, kvm_pic_state &state);
	void set(unsigned chip, const kvm_pic_state &state);

private:
	struct State {
		PicChip master, slave;
		u64 sources[line_count] = {};
	};

	struct Acknowledged {
		u16 lines = 0;
		u8 value = 0;
	};

	template <class Use>
	u8 run(Use &&use);
	void update(State &state);
	static Acknowledged take(State &state);
	static Acknowledged poll(State &state, bool slave);

	Lines lines_;
	std::atomic<bool> output_{false};
	host::Locked<State, host::LockClass::pic, host::SpinLock> state_;
};

} // namespace kvmpp::x86
