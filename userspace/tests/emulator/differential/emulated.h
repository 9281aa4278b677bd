// SPDX-License-Identifier: GPL-2.0-only
// The emulator's side of the comparison.
#pragma once

#include <memory>
#include "tests/emulator/differential/generator.h"
#include "tests/emulator/made_up_guest.h"

namespace kvmpp::x86::emulator::differential
{

class EmulatedSide {
public:
	EmulatedSide(const u8 (&image)[image_size], const Surroundings &surroundings);

	enum class Verdict : u8 {
		comparable,
		leaves_the_arena, // the state must not be run natively
		unknown,	  // the emulator does not know the instruction
		endless,	  // it goes on forever
	};
	// Sets what the native side has to know of the end.
	Verdict run(State &state, Ending &result);

private:
	void load(const State &state);
	void take(Ending &result) const;

	const u8 (&image_)[image_size];
	std::unique_ptr<u8[]> memory_;
	u8 code_[page_size];
	u8 descriptors_[24];
	test::MadeUpGuest guest_;
};

// What of memory differs from the image, and `memory` as it was.
void take_changes(Changed &changed, u8 *memory, const u8 *image);

} // namespace kvmpp::x86::emulator::differential
