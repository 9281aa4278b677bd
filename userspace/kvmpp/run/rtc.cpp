// SPDX-License-Identifier: GPL-2.0-only
// Registers of the MC146818 (Motorola's data sheet), in BCD and 24 hours.
#include "kvmpp/run/rtc.h"

namespace kvmpp::command
{

using lib::u8;

namespace
{

u8 bcd(int number)
{
	return static_cast<u8>(number / 10 << 4 | number % 10);
}

} // namespace

u8 rtc_register(u8 index, std::time_t now)
{
	constexpr u8 control_a = 10, control_b = 11, control_c = 12, control_d = 13, century = 0x32;
	std::tm time;
	gmtime_r(&now, &time);
	switch (index) {
	case 0: return bcd(time.tm_sec);
	case 2: return bcd(time.tm_min);
	case 4: return bcd(time.tm_hour);
	case 6: return bcd(time.tm_wday + 1);
	case 7: return bcd(time.tm_mday);
	case 8: return bcd(time.tm_mon + 1);
	case 9: return bcd(time.tm_year % 100);
	case century: return bcd((time.tm_year + 1900) / 100);
	case control_a: return 0x26; // 32,768 Hz; no update in progress
	case control_b: return 0x02; // 24 hours, BCD, no interrupt
	case control_c: return 0;
	case control_d: return 0x80; // the battery is good
	default: return 0;
	}
}

} // namespace kvmpp::command
