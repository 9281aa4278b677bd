// SPDX-License-Identifier: GPL-2.0-only
// What is done with a machine. Each function is one step or a few.
#pragma once

#include "machine.h"

namespace kvmpp::qemu
{

// steps_devices.cpp
void boots(Machine &machine);
void gives_random_numbers(Machine &machine);
// Sectors to and fro: the disk is a raw image, which is read from both sides.
void shares_sectors(Machine &machine, const Hardware &hardware);
void has_file_system(Machine &machine);
void moves_network_data(Machine &machine, unsigned mib);

// steps_time.cpp
void keeps_time(Machine &machine, const char *name);
void knows_the_date(Machine &machine);
void stops_and_continues(Machine &machine);

// steps_processors.cpp
void computes(Machine &machine, const char *name);
void interrupts_itself(Machine &machine, const char *name);
void begins_to_keep(Machine &machine);
void has_kept(Machine &machine);

// steps_moves.cpp
void returns_to_snapshot(Machine &machine);
// To a file, and its QEMU ends; and from there into another QEMU.
void leaves(Machine &machine);
void arrives(Machine &machine);
std::vector<std::string> arriving();

// steps_debugger.cpp
std::vector<std::string> debuggable();
void is_debugged(Machine &machine);

// steps_power.cpp
void reboots(Machine &machine);
void has_no_complaints(Machine &machine);
void powers_off(Machine &machine);

} // namespace kvmpp::qemu
