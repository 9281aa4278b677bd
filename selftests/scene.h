// SPDX-License-Identifier: GPL-2.0-only
// Twins amid tables of random descriptors: what an instruction finds there is sometimes good and
// sometimes not, and both twins must see it alike.
#pragma once

#include "descriptors.h"
#include "twins.h"

namespace kvmpp::selftests
{

// Where things lie, besides what `at` says.
namespace place
{
inline constexpr u64 landing =
	0x1200; // where transfers go: a HLT, as all around; without the bit of TF
inline constexpr u64 local_table = 0x6c00, local_limit = 0x3f;
inline constexpr u64 redirections = at::tss + 0x68, port_map = at::tss + 0x88, tss_limit = 0xa9;
inline constexpr u64 inner_stack = 0x7400, stack = 0x7800, user_stack = 0x11800;
inline constexpr u64 operand = 0x10800;
inline constexpr u64 far_landing = 0x11200; // beyond the limits of small segments
// The same memory again, at multiples of this: not present, the supervisor's, read-only.
inline constexpr u64 again = 4 << 20;
} // namespace place

// Entries of the GDT. From `random` on each takes two entries' place.
namespace selector
{
inline constexpr u16 user_code32 = 0x48 | 3, local = 0x50, conforming = 0x60,
		     user_code16 = 0x68 | 3;
inline constexpr u16 random = 0x80, random_count = 24, end = random + 16 * random_count;
} // namespace selector

class Scene : public Twins {
public:
	Scene(Mode mode, u64 seed);

	// A new state, at that privilege level, about to execute at at::code.
	void begin(unsigned cpl);

	bool wide() const { return mode_ == Mode::long_mode; }
	u16 any_selector();
	// Of data, mostly.
	u64 any_address();
	// Of code to go to.
	u64 any_target();
	u64 any_segment_descriptor();
	u64 any_gate(u8 type);
	u64 any_flags();
	// Puts values of `size` bytes there, one after the other, wherever it is mapped.
	void poke(u64 address, const u64 *values, unsigned count, unsigned size);
	void poke(u64 address, u64 value, unsigned size) { poke(address, &value, 1, size); }
	// A gate of the interrupt table.
	void set_gate(u8 vector, u64 gate, u64 upper = 0);

	Random random;
	State state;

private:
	u64 any_system_descriptor();
	void fill_table(u64 base, unsigned count);

	Mode mode_;
};

} // namespace kvmpp::selftests
