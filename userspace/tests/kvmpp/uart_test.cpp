// SPDX-License-Identifier: GPL-2.0-only
// The serial port, as a driver finds it.
#include <gtest/gtest.h>
#include <linux/serial_reg.h>
#include <string>
#include "kvmpp/run/uart.h"

namespace kvmpp::command
{
namespace
{

struct UartTest : testing::Test {
	std::string sent;
	std::vector<bool> line;
	Uart uart{{
		.send = [this](lib::u8 byte) { sent += static_cast<char>(byte); },
		.interrupt = [this](bool level) { line.push_back(level); },
	}};

	void receive(std::string_view text)
	{
		uart.receive({reinterpret_cast<const lib::u8 *>(text.data()), text.size()});
	}
	bool level() const { return !line.empty() && line.back(); }
	lib::u8 cause() { return uart.read(UART_IIR) & 0x0f; }
};

TEST_F(UartTest, sends_and_is_always_ready)
{
	for (const char c : {'h', 'i'}) {
		EXPECT_EQ(uart.read(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
		uart.write(UART_TX, static_cast<lib::u8>(c));
	}
	EXPECT_EQ(sent, "hi");
	EXPECT_TRUE(line.empty());
}

TEST_F(UartTest, divisor_latch_hides_data_and_interrupt_enable)
{
	uart.write(UART_LCR, UART_LCR_DLAB);
	uart.write(UART_DLL, 12);
	uart.write(UART_DLM, 1);
	EXPECT_EQ(uart.read(UART_DLL), 12);
	EXPECT_EQ(uart.read(UART_DLM), 1);
	uart.write(UART_LCR, UART_LCR_WLEN8);
	EXPECT_EQ(uart.read(UART_IER), 0);
	EXPECT_EQ(sent, "");
}

TEST_F(UartTest, is_a_16550a_and_nothing_newer)
{
	uart.write(UART_FCR, UART_FCR_ENABLE_FIFO);
	EXPECT_EQ(uart.read(UART_IIR) >> 6, 3);
	uart.write(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	constexpr lib::u8 fifo_of_16750 = 0x20;
	EXPECT_FALSE(uart.read(UART_IIR) & fifo_of_16750);
	uart.write(UART_IER, 0xff);
	EXPECT_EQ(uart.read(UART_IER), 0x0f);
}

TEST_F(UartTest, transmitter_interrupt_comes_with_its_enabling_and_goes_when_told)
{
	uart.write(UART_MCR, UART_MCR_OUT2);
	uart.write(UART_IER, UART_IER_THRI);
	EXPECT_TRUE(level());
	EXPECT_EQ(cause(), UART_IIR_THRI);
	EXPECT_FALSE(level());
	EXPECT_EQ(cause(), UART_IIR_NO_INT);
	uart.write(UART_TX, 'x');
	uart.write(UART_TX, 'y');
	EXPECT_EQ(line, (std::vector<bool>{true, false, true}));
	uart.write(UART_IER, 0);
	EXPECT_FALSE(level());
}

TEST_F(UartTest, interrupt_needs_out2)
{
	uart.write(UART_IER, UART_IER_THRI);
	EXPECT_TRUE(line.empty());
	uart.write(UART_MCR, UART_MCR_OUT2);
	EXPECT_TRUE(level());
}

TEST_F(UartTest, input_waits_for_a_driver_that_listens)
{
	receive("ab");
	EXPECT_FALSE(uart.read(UART_LSR) & UART_LSR_DR);
	uart.write(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	EXPECT_EQ(uart.read(UART_RX), 0);
	uart.write(UART_MCR, UART_MCR_OUT2);
	uart.write(UART_IER, UART_IER_RDI);
	EXPECT_TRUE(level());
	EXPECT_EQ(cause(), UART_IIR_RDI);
	EXPECT_EQ(uart.read(UART_RX), 'a');
	EXPECT_TRUE(level());
	EXPECT_EQ(uart.read(UART_RX), 'b');
	EXPECT_FALSE(level());
	EXPECT_FALSE(uart.read(UART_LSR) & UART_LSR_DR);
}

TEST_F(UartTest, what_exceeds_the_room_is_lost)
{
	receive(std::string(Uart::receive_limit + 1, 'a'));
	EXPECT_EQ(uart.receive_room(), 0u);
	uart.write(UART_IER, UART_IER_RDI);
	EXPECT_EQ(uart.read(UART_RX), 'a');
	EXPECT_EQ(uart.receive_room(), 1u);
}

TEST_F(UartTest, loopback_shows_the_modem_outputs_and_sends_nothing)
{
	uart.write(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	EXPECT_EQ(uart.read(UART_MSR), UART_MSR_DCD | UART_MSR_CTS);
	uart.write(UART_TX, 'l');
	EXPECT_EQ(sent, "");
	EXPECT_EQ(uart.read(UART_RX), 'l');
}

} // namespace
} // namespace kvmpp::command
