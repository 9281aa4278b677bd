// SPDX-License-Identifier: GPL-2.0-only
// One 8259A, without its lines, ports and locks.
#pragma once

#include <optional>
#include <linux/kvm.h>
#include "host/types.h"
#include "x86/devices/message.h"

namespace kvmpp::x86
{

struct PicChip {
	// The master's input that the slave drives.
	static constexpr u8 cascade = 2, cascade_bit = 1 << cascade;

	kvm_pic_state r{}; // the registers are those that a VMM sees

	// The line that asks for the processor, if any may.
	std::optional<u8> request(bool master) const;
	// The result is that of KVM_IRQ_LINE_STATUS.
	int set_line(u8 line, bool level);

	// These return the lines whose interrupts are over.
	u8 take(u8 line); // interrupt acknowledge
	u8 command(u8 value);
	void data(u8 value); // ICW2 to ICW4, or OCW1

private:
	u8 rank(u8 lines) const;
	u8 initialize(u8 icw1);
	u8 operation(u8 ocw2);
	void mode(u8 ocw3);
	u8 finish(u8 line);
};

} // namespace kvmpp::x86
