// SPDX-License-Identifier: GPL-2.0-only
// The ioctls with the shapes of their arguments: which numbers in them are descriptors or addresses.
#pragma once

#include <span>
#include <vector>
#include "fuzz/input.h"
#include "sim/user/memory.h"

namespace kvmpp::fuzz
{

enum class On : u8 { system, vm, vcpu };

// What an argument may refer to.
struct Surroundings {
	sim::UserMemory &ram;
	std::vector<int> descriptors; // of all kinds
	int any_descriptor(Input &input) const
	{
		return descriptors.empty() || !input.choose(8)
			       ? input.take<s8>()
			       : descriptors[input.choose(static_cast<unsigned>(descriptors.size()))];
	}
	// Of the VMM's memory mostly.
	u64 any_address(Input &input) const
	{
		return input.choose(8) ? ram.address() + (input.take<u8>() % ram.pages()) * page_size
				       : input.number();
	}
};

struct Ioctl {
	On on;
	unsigned command;
	// The argument is a number, not an address of _IOC_SIZE bytes.
	bool by_value = false;
	// Room behind the struct, for those that end in an array; the struct says how many items.
	usize item_size = 0, count_place = 0;
	// Makes numbers of the argument that are not arbitrary plausible.
	void (*refine)(std::span<u8> argument, Input &input, const Surroundings &around) = nullptr;
};

std::span<const Ioctl> all_ioctls();

} // namespace kvmpp::fuzz
