// SPDX-License-Identifier: GPL-2.0-only
// The port map.
#include "kvmpp/run/platform.h"

#include <algorithm>
#include <cstring>
#include "kvmpp/run/acpi.h"
#include "kvmpp/run/layout.h"
#include "kvmpp/run/rtc.h"

namespace kvmpp::command
{

using lib::u16;
using lib::u8;

namespace
{

constexpr unsigned serial_ports = 8;

// ACPI 6.4, 4.8.3.2.1
constexpr u16 sci_enable = 1 << 0;
constexpr u16 sleep_enable = 1 << 13;
constexpr u16 sleep_type(u16 control)
{
	return control >> 10 & 7;
}

constexpr bool is_serial(u16 port)
{
	return port >= layout::serial_port && port < layout::serial_port + serial_ports;
}

} // namespace

std::optional<PowerRequest> Platform::serve(const lib::exits::Io &access)
{
	const std::lock_guard guard{lock_};
	std::optional<PowerRequest> request;
	for (std::size_t done = 0; done < access.data.size(); done += access.size) {
		const auto data = access.data.subspan(done, access.size);
		if (!access.write)
			read(access.port, data);
		else if (const auto asked = write(access.port, data))
			request = asked;
	}
	return request;
}

void Platform::serve(const lib::exits::Mmio &access)
{
	if (!access.write)
		std::ranges::fill(access.data, std::byte{0xff});
}

std::size_t Platform::receive_room()
{
	const std::lock_guard guard{lock_};
	return uart_.receive_room();
}

void Platform::receive(std::span<const u8> bytes)
{
	const std::lock_guard guard{lock_};
	uart_.receive(bytes);
}

// A wide access to byte-wide devices is several narrow ones.
void Platform::read(u16 port, std::span<std::byte> data)
{
	for (std::byte &byte : data)
		byte = std::byte{read_byte(port++)};
}

std::optional<PowerRequest> Platform::write(u16 port, std::span<const std::byte> data)
{
	if (port == layout::pm1_control && data.size() >= sizeof(u16)) {
		u16 control;
		std::memcpy(&control, data.data(), sizeof(control));
		if (control & sleep_enable && sleep_type(control) == acpi_soft_off)
			return PowerRequest::power_off;
		return {};
	}
	for (const std::byte byte : data) {
		if (const auto request = write_byte(port++, std::to_integer<u8>(byte)))
			return request;
	}
	return {};
}

u8 Platform::read_byte(u16 port)
{
	if (is_serial(port))
		return uart_.read(port - layout::serial_port);
	switch (port) {
	case layout::rtc_ports: return rtc_index_;
	case layout::rtc_ports + 1: return rtc_register(rtc_index_);
	case layout::keyboard_status: return 0; // ready for a command
	case layout::pm1_event:
	case layout::pm1_event + 1: return 0; // no event has happened
	case layout::pm1_event + 2: return acpi_enable_[0];
	case layout::pm1_event + 3: return acpi_enable_[1];
	case layout::pm1_control: return sci_enable;
	case layout::pm1_control + 1: return 0;
	case layout::reset_port: return 0;
	default: return 0xff; // nobody is there to pull the bus low
	}
}

std::optional<PowerRequest> Platform::write_byte(u16 port, u8 value)
{
	constexpr u8 pulse_reset_line = 0xfe; // a command of the keyboard controller
	constexpr u8 reset_cpu = 1 << 2;

	if (is_serial(port))
		uart_.write(port - layout::serial_port, value);
	else if (port == layout::rtc_ports)
		rtc_index_ = value & 0x7f; // the top bit masks NMI
	else if (port == layout::pm1_event + 2 || port == layout::pm1_event + 3)
		acpi_enable_[port - layout::pm1_event - 2] = value;
	else if (port == layout::keyboard_status && value == pulse_reset_line)
		return PowerRequest::reset;
	else if (port == layout::reset_port && value & reset_cpu)
		return PowerRequest::reset;
	return {};
}

} // namespace kvmpp::command
