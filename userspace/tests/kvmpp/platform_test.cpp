// SPDX-License-Identifier: GPL-2.0-only
// Ports: power, reset, clock, and those that nobody serves.
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include "kvmpp/run/acpi.h"
#include "kvmpp/run/layout.h"
#include "kvmpp/run/platform.h"
#include "kvmpp/run/rtc.h"

namespace kvmpp::command
{
namespace
{

struct PlatformTest : testing::Test {
	std::string sent;
	Platform platform{{
		.send = [this](lib::u8 byte) { sent += static_cast<char>(byte); },
		.interrupt = [](bool) {},
	}};

	template <class T>
	std::optional<PowerRequest> out(lib::u16 port, T value)
	{
		std::array<std::byte, sizeof(T)> data;
		std::memcpy(data.data(), &value, sizeof(T));
		return platform.serve(lib::exits::Io{port, sizeof(T), true, data});
	}

	template <class T>
	T in(lib::u16 port)
	{
		T value{};
		std::array<std::byte, sizeof(T)> data{};
		EXPECT_FALSE(platform.serve(lib::exits::Io{port, sizeof(T), false, data}));
		std::memcpy(&value, data.data(), sizeof(T));
		return value;
	}
};

TEST_F(PlatformTest, unknown_ports_read_as_ones_and_take_anything)
{
	EXPECT_EQ(in<lib::u8>(0x2f8), 0xff);
	EXPECT_EQ(in<lib::u32>(0xcfc), 0xffffffff);
	EXPECT_FALSE(out<lib::u32>(0xcf8, 0x80000000));
	EXPECT_EQ(in<lib::u32>(0xfffe), 0xffffffff); // wraps at the last port
}

TEST_F(PlatformTest, soft_off_needs_its_type_and_the_enable_bit)
{
	EXPECT_EQ(in<lib::u16>(layout::pm1_control), 1);
	EXPECT_FALSE(out<lib::u16>(layout::pm1_control, acpi_soft_off << 10));
	EXPECT_FALSE(out<lib::u16>(layout::pm1_control, 1 << 13 | 3 << 10));
	EXPECT_EQ(out<lib::u16>(layout::pm1_control, 1 << 13 | acpi_soft_off << 10),
		PowerRequest::power_off);
}

TEST_F(PlatformTest, resets_by_keyboard_controller_and_by_reset_port)
{
	EXPECT_FALSE(out<lib::u8>(layout::keyboard_status, 0xd1));
	EXPECT_EQ(out<lib::u8>(layout::keyboard_status, 0xfe), PowerRequest::reset);
	EXPECT_FALSE(out<lib::u8>(layout::reset_port, 2));
	EXPECT_EQ(out<lib::u8>(layout::reset_port, acpi_reset_value), PowerRequest::reset);
	EXPECT_EQ(in<lib::u8>(layout::keyboard_status) & 2, 0);
}

TEST_F(PlatformTest, string_output_reaches_the_serial_port_whole)
{
	std::string text = "hello";
	const auto data = std::as_writable_bytes(std::span{text});
	platform.serve(lib::exits::Io{layout::serial_port, 1, true, data});
	EXPECT_EQ(sent, "hello");
}

TEST_F(PlatformTest, memory_without_a_device_reads_as_ones)
{
	std::array<std::byte, 4> data{};
	Platform::serve(lib::exits::Mmio{0xfed00000, false, data});
	for (const std::byte byte : data)
		EXPECT_EQ(byte, std::byte{0xff});
}

TEST(Rtc, tells_the_time_in_bcd)
{
	const std::time_t moment = 1735689599; // Tuesday 2024-12-31 23:59:59 UTC
	const lib::u8 indices[] = {0, 2, 4, 6, 7, 8, 9, 0x32};
	const lib::u8 expected[] = {0x59, 0x59, 0x23, 3, 0x31, 0x12, 0x24, 0x20};
	for (std::size_t i = 0; i < std::size(indices); i++)
		EXPECT_EQ(rtc_register(indices[i], moment), expected[i])
			<< "register " << +indices[i];
	EXPECT_EQ(rtc_register(10) & 0x80, 0);
}

} // namespace
} // namespace kvmpp::command
