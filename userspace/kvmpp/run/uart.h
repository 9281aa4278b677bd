// SPDX-License-Identifier: GPL-2.0-only
// A 16550 serial port that sends at once. It knows neither ports nor machines: what it sends and
// its interrupt line go to whoever made it.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <span>
#include "lib/types.h"

namespace kvmpp::command
{

class Uart {
public:
	struct Wiring {
		std::function<void(lib::u8)> send;
		std::function<void(bool)> interrupt; // told only when it changes
	};

	// How much is kept of what arrives before the guest reads it.
	static constexpr std::size_t receive_limit = 4096;

	explicit Uart(Wiring wiring) : wiring_{std::move(wiring)} {}

	lib::u8 read(unsigned offset);
	void write(unsigned offset, lib::u8 value);

	std::size_t receive_room() const { return receive_limit - received_.size(); }
	// What exceeds the room is lost, as on a real line.
	void receive(std::span<const lib::u8> bytes);

private:
	lib::u8 line_status() const;
	lib::u8 modem_status() const;
	lib::u8 interrupt_cause() const;
	bool data_ready() const;
	void transmit(lib::u8 value);
	void update_interrupt();

	Wiring wiring_;
	std::deque<lib::u8> received_;
	lib::u8 interrupt_enable_ = 0;
	lib::u8 fifo_control_ = 0;
	lib::u8 line_control_ = 0;
	lib::u8 modem_control_ = 0;
	lib::u8 scratch_ = 0;
	std::array<lib::u8, 2> divisor_{1, 0};
	bool sent_ = false; // the transmitter has become empty and nobody was told yet
	bool interrupt_line_ = false;
};

} // namespace kvmpp::command
