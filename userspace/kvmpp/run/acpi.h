// SPDX-License-Identifier: GPL-2.0-only
// ACPI tables: they name the processors and interrupt controllers, and say how to power off and
// to reset. ACPI 6.4, chapter 5.
#pragma once

#include <span>
#include "lib/types.h"

namespace kvmpp::command
{

// The sleep type of "soft off" (S5) in these tables, for whoever serves the PM1 control port.
inline constexpr lib::u16 acpi_soft_off = 5;
// What is written to the reset port.
inline constexpr lib::u8 acpi_reset_value = 6;

// `area` begins at layout::acpi.
void store_acpi_tables(std::span<std::byte> area, unsigned cpus);

} // namespace kvmpp::command
