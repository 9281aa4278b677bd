// SPDX-License-Identifier: GPL-2.0-only
// The registers of a 16550 (National Semiconductor PC16550D data sheet).
#include "kvmpp/run/uart.h"

#include <algorithm>
#include <linux/serial_reg.h>

namespace kvmpp::command
{

using lib::u8;

bool Uart::data_ready() const
{
	// The far end sends once the guest's driver listens. What was typed ahead is then not lost
	// to the driver's clearing of the FIFO.
	const bool listening = interrupt_enable_ & UART_IER_RDI || modem_control_ & UART_MCR_LOOP;
	return listening && !received_.empty();
}

u8 Uart::line_status() const
{
	return UART_LSR_THRE | UART_LSR_TEMT | (data_ready() ? UART_LSR_DR : 0);
}

u8 Uart::modem_status() const
{
	if (!(modem_control_ & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	const auto looped = [&](u8 output, u8 input) {
		return modem_control_ & output ? input : 0;
	};
	return static_cast<u8>(
		looped(UART_MCR_RTS, UART_MSR_CTS) | looped(UART_MCR_DTR, UART_MSR_DSR) |
		looped(UART_MCR_OUT1, UART_MSR_RI) | looped(UART_MCR_OUT2, UART_MSR_DCD));
}

// By priority.
u8 Uart::interrupt_cause() const
{
	if (interrupt_enable_ & UART_IER_RDI && data_ready())
		return UART_IIR_RDI;
	if (interrupt_enable_ & UART_IER_THRI && sent_)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

void Uart::update_interrupt()
{
	// On a PC, OUT2 is the gate between the chip and the interrupt controller.
	const bool line = interrupt_cause() != UART_IIR_NO_INT && modem_control_ & UART_MCR_OUT2;
	if (line != interrupt_line_) {
		interrupt_line_ = line;
		wiring_.interrupt(line);
	}
}

void Uart::transmit(u8 value)
{
	if (modem_control_ & UART_MCR_LOOP) {
		if (receive_room())
			received_.push_front(value);
	} else {
		wiring_.send(value);
	}
	sent_ = true;
}

void Uart::receive(std::span<const u8> bytes)
{
	const auto kept = bytes.first(std::min(bytes.size(), receive_room()));
	received_.insert(received_.end(), kept.begin(), kept.end());
	update_interrupt();
}

u8 Uart::read(unsigned offset)
{
	const bool divisor = line_control_ & UART_LCR_DLAB;
	u8 value = 0;
	switch (offset) {
	case UART_RX:
		if (divisor)
			return divisor_[0];
		if (data_ready()) {
			value = received_.front();
			received_.pop_front();
		}
		break;
	case UART_IER: return divisor ? divisor_[1] : interrupt_enable_;
	case UART_IIR:
		value = interrupt_cause();
		if (value == UART_IIR_THRI)
			sent_ = false; // told now
		if (fifo_control_ & UART_FCR_ENABLE_FIFO)
			value |= 0xc0; // a 16550 whose FIFO works
		break;
	case UART_LCR: return line_control_;
	case UART_MCR: return modem_control_;
	case UART_LSR: return line_status();
	case UART_MSR: return modem_status();
	case UART_SCR: return scratch_;
	}
	update_interrupt();
	return value;
}

void Uart::write(unsigned offset, u8 value)
{
	const bool divisor = line_control_ & UART_LCR_DLAB;
	switch (offset) {
	case UART_TX:
		if (divisor)
			divisor_[0] = value;
		else
			transmit(value);
		break;
	case UART_IER:
		if (divisor) {
			divisor_[1] = value;
		} else {
			// Enabling the interrupt while the transmitter is empty raises it.
			if (value & ~interrupt_enable_ & UART_IER_THRI)
				sent_ = true;
			interrupt_enable_ = value & 0x0f;
		}
		break;
	case UART_FCR: fifo_control_ = value; break;
	case UART_LCR: line_control_ = value; break;
	case UART_MCR: modem_control_ = value & 0x1f; break;
	case UART_SCR: scratch_ = value; break;
	}
	update_interrupt();
}

} // namespace kvmpp::command
