// SPDX-License-Identifier: GPL-2.0-only
#include "machine/legacy_chips.h"

#include <algorithm>
#include "machine/interrupts.h"

namespace kvmpp::machine
{
namespace
{

u64 value_of(std::span<const u8> data)
{
	u64 value = 0;
	__builtin_memcpy(&value, data.data(), std::min(data.size(), sizeof(value)));
	return value;
}

} // namespace

LegacyChips::LegacyChips(Interrupts &interrupts, IoBus &ports, IoBus &mmio)
	: pic{{x86::callback<&Interrupts::pic_output>(interrupts),
		  x86::callback<&Interrupts::pic_acknowledged>(interrupts)}},
	  ioapic{{x86::callback<&Interrupts::deliver_from_ioapic>(interrupts),
		  x86::callback<&Interrupts::ioapic_acknowledged>(interrupts),
		  x86::callback<&Interrupts::eoi_vectors_changed>(interrupts)}},
	  ports_{ports}, mmio_{mmio}
{
}

LegacyChips::~LegacyChips()
{
	ports_.remove(pic_ports_);
	mmio_.remove(ioapic_window_);
}

Result<> LegacyChips::attach()
{
	TRY(ports_.add(0x20, 2, pic_ports_));
	TRY(ports_.add(0xa0, 2, pic_ports_));
	TRY(ports_.add(0x4d0, 2, pic_ports_));
	return mmio_.add(x86::Ioapic::default_base, x86::Ioapic::window, ioapic_window_);
}

bool LegacyChips::PicPorts::read(u64 address, std::span<u8> data)
{
	if (data.size() != 1)
		return false;
	data[0] = pic_.read(static_cast<u16>(address));
	return true;
}

bool LegacyChips::PicPorts::write(u64 address, std::span<const u8> data)
{
	if (data.size() != 1)
		return false;
	pic_.write(static_cast<u16>(address), data[0]);
	return true;
}

// A VMM may have restored a state in which the I/O APIC lies elsewhere, where no bus leads to it.
bool LegacyChips::IoapicWindow::read(u64 address, std::span<u8> data)
{
	if (!ioapic_.contains(address))
		return false;
	const u64 value = ioapic_.read(address - x86::Ioapic::default_base, data.size());
	__builtin_memcpy(data.data(), &value, std::min(data.size(), sizeof(value)));
	return true;
}

bool LegacyChips::IoapicWindow::write(u64 address, std::span<const u8> data)
{
	if (!ioapic_.contains(address))
		return false;
	ioapic_.write(address - x86::Ioapic::default_base, data.size(), value_of(data));
	return true;
}

PitDevice::PitDevice(Interrupts &interrupts, IoBus &ports)
	: pit{x86::callback<&PitDevice::set_irq0>(*this)}, interrupts_{interrupts}, ports_{ports}
{
}

PitDevice::~PitDevice()
{
	ports_.remove(*this);
}

int PitDevice::set_irq0(bool level)
{
	return interrupts_.set_line(0, IrqSource::pit, level);
}

Result<> PitDevice::attach(bool speaker)
{
	TRY(ports_.add(0x40, 4, *this));
	if (speaker)
		TRY(ports_.add(0x61, 1, *this));
	return {};
}

bool PitDevice::read(u64 address, std::span<u8> data)
{
	// Wider accesses reach the first port alone and read as ones beyond it.
	std::fill(data.begin(), data.end(), 0xff);
	data[0] = pit.read(static_cast<u16>(address));
	return true;
}

bool PitDevice::write(u64 address, std::span<const u8> data)
{
	pit.write(static_cast<u16>(address), data[0]);
	return true;
}

} // namespace kvmpp::machine
