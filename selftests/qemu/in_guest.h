// SPDX-License-Identifier: GPL-2.0-only
// The guest's side of a session: a program of these commands.
#pragma once

#include <cstdint>

namespace kvmpp::qemu
{

// What a transfer is about: words of the command line.
struct Pattern {
	std::uint64_t seed, bytes;
};

// A file or a device, from this offset on. What was written has reached the device.
bool write_file(const char *path, std::uint64_t offset, Pattern pattern);
bool read_file(const char *path, std::uint64_t offset, Pattern pattern);

// Over TCP. The other end of send() confirms that all came.
bool send_to(const char *address, std::uint16_t port, Pattern pattern);
bool receive_from(const char *address, std::uint16_t port, Pattern pattern);

// Computes on every processor at once and says the result, which is the same on each.
bool compute_everywhere(unsigned rounds);

// Makes two processors interrupt each other until so many interrupts have come, in each of two ways.
bool interrupt_each_other(unsigned enough);

// Rewrites memory on every processor and checks what it wrote before, for ever, while it looks at
// the clock. Its tally goes to that file, which tally() says.
bool keep(const char *tally_path, unsigned mib);
bool tally(const char *tally_path);

// Calls a function again and again until that file is there, for a debugger to stop it. Says where
// the function is and the datum that it counts in; whether no call was lost.
bool call_until(const char *path);

// The calling thread runs on this processor only.
void stay_on(unsigned cpu);
unsigned processors();

} // namespace kvmpp::qemu
