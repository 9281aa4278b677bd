// SPDX-License-Identifier: GPL-2.0-only
// Where everything lies in the guest's physical memory, and at which ports.
#pragma once

#include "lib/types.h"

namespace kvmpp::command::layout
{

using lib::u16;
using lib::u64;

// Below 1 MiB: what the kernel is handed. The page tables map the first 1 GiB onto itself.
inline constexpr u64 gdt = 0x500;
inline constexpr u64 zero_page = 0x7000;
inline constexpr u64 page_tables = 0x9000; // three pages
inline constexpr u64 command_line = 0x20000;
inline constexpr u64 low_memory_end = 0x9fc00;
inline constexpr u64 acpi = 0xe0000; // where an operating system may search for the RSDP
inline constexpr u64 acpi_end = 0x100000;
inline constexpr u64 kernel = 0x100000;

// Memory ends here and goes on above 4 GiB: the top of the first 4 GiB belongs to devices.
inline constexpr u64 device_hole = 0xc0000000;
inline constexpr u64 high_memory = 0x100000000;
inline constexpr u64 ioapic = 0xfec00000;
inline constexpr u64 local_apic = 0xfee00000;
inline constexpr u64 identity_map = 0xfffbc000; // one page
inline constexpr u64 tss = 0xfffbd000;		// three pages

inline constexpr u16 rtc_ports = 0x70;	     // index, data
inline constexpr u16 keyboard_status = 0x64; // of the controller that can reset the machine
inline constexpr u16 serial_port = 0x3f8;    // eight of them
inline constexpr u16 pm1_event = 0x600;	     // ACPI: status, enable; 16 bits each
inline constexpr u16 pm1_control = 0x604;    // ACPI: sleep; 16 bits
inline constexpr u16 reset_port = 0xcf9;

inline constexpr unsigned serial_irq = 4;
inline constexpr unsigned acpi_irq = 9;

} // namespace kvmpp::command::layout
