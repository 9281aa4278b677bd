// SPDX-License-Identifier: GPL-2.0-only
// The PICs, the I/O APIC and the PIT of a VM where its buses show them.
#pragma once

#include "machine/io_bus.h"
#include "x86/devices/ioapic.h"
#include "x86/devices/pic.h"
#include "x86/devices/pit.h"

namespace kvmpp::machine
{

class Interrupts;

class LegacyChips : host::Pinned {
    public:
	LegacyChips(Interrupts &interrupts, IoBus &ports, IoBus &mmio);
	~LegacyChips();

	// Puts the ports and the MMIO window on the buses. ENOMEM, ENOSPC.
	Result<> attach();

	x86::Pic pic;
	x86::Ioapic ioapic;

    private:
	class PicPorts final : public IoDevice {
	    public:
		explicit PicPorts(x86::Pic &pic) : pic_{pic} {}
		bool read(u64 address, std::span<u8> data) override;
		bool write(u64 address, std::span<const u8> data) override;

	    private:
		x86::Pic &pic_;
	};
	class IoapicWindow final : public IoDevice {
	    public:
		explicit IoapicWindow(x86::Ioapic &ioapic) : ioapic_{ioapic} {}
		bool read(u64 address, std::span<u8> data) override;
		bool write(u64 address, std::span<const u8> data) override;

	    private:
		x86::Ioapic &ioapic_;
	};

	IoBus &ports_, &mmio_;
	PicPorts pic_ports_{pic};
	IoapicWindow ioapic_window_{ioapic};
};

// The PIT on ports 0x40 to 0x43 and, if it serves the speaker, 0x61; its channel 0 is GSI 0.
class PitDevice final : public IoDevice, host::Pinned {
    public:
	PitDevice(Interrupts &interrupts, IoBus &ports);
	~PitDevice();

	Result<> attach(bool speaker);
	bool read(u64 address, std::span<u8> data) override;
	bool write(u64 address, std::span<const u8> data) override;

	x86::Pit pit;

    private:
	int set_irq0(bool level);

	Interrupts &interrupts_;
	IoBus &ports_;
};

} // namespace kvmpp::machine
