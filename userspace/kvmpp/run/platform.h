// SPDX-License-Identifier: GPL-2.0-only
// The devices of the machine that are not in the kernel, and what their ports mean. Calls come from
// any vCPU's thread and from the console's.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include "kvmpp/run/uart.h"
#include "lib/exit.h"

namespace kvmpp::command
{

// What a guest can ask of its machine as a whole.
enum class PowerRequest { power_off, reset };

class Platform {
public:
	explicit Platform(Uart::Wiring serial) : uart_{std::move(serial)} {}

	// Serves a port access. The answer is what has become of the machine, if anything has.
	std::optional<PowerRequest> serve(const lib::exits::Io &access);
	// No device has memory-mapped registers: reads find all ones.
	static void serve(const lib::exits::Mmio &access);

	std::size_t receive_room();
	void receive(std::span<const lib::u8> bytes);

private:
	void read(lib::u16 port, std::span<std::byte> data);
	std::optional<PowerRequest> write(lib::u16 port, std::span<const std::byte> data);
	std::optional<PowerRequest> write_byte(lib::u16 port, lib::u8 value);
	lib::u8 read_byte(lib::u16 port);

	std::mutex lock_;
	Uart uart_;
	lib::u8 rtc_index_ = 0;
	std::array<lib::u8, 2> acpi_enable_{}; // of events that never happen
};

} // namespace kvmpp::command
