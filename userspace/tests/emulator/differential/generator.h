// SPDX-License-Identifier: GPL-2.0-only
// Makes random states in which a form runs and stays within the arena.
#pragma once

#include "tests/emulator/differential/form.h"
#include "tests/emulator/differential/random.h"
#include "tests/emulator/differential/state.h"

namespace kvmpp::x86::emulator::differential
{

struct Surroundings {
	u64 fs_base = 0;
	bool wide_addresses = false; // LA57
};

class Generator {
public:
	Generator(u64 seed, const Surroundings &surroundings)
		: random_{seed}, surroundings_{surroundings}
	{}

	// False: the bytes came out as another form.
	bool generate(const Form &form, State &state);

private:
	void encode();
	void encode_prefixes();
	void encode_vex();
	void put(u64 byte) { state_->code[state_->code_size++] = static_cast<u8>(byte); }
	void fill_registers();
	void fill_extended();
	void place_code();
	u64 target(unsigned size);
	void aim(u64 at);
	void patch(unsigned bytes_before_end, u64 value, unsigned size);
	void poke(u64 at, u64 value, unsigned size, unsigned offset = 0);
	void aim_implicit();
	void aim_string();
	void aim_stack();
	void aim_branch();
	void choose_values();
	u16 selector(bool may_succeed);
	u64 &gpr(Gpr name) { return state_->registers.gpr[static_cast<u8>(name)]; }
	unsigned operand_bytes() const;

	Random random_;
	const Surroundings surroundings_;
	const Form *form_ = nullptr;
	State *state_ = nullptr;
	Instruction instruction_{};
	bool decoded_ = false;
	u64 aimed_at_ = 0; // the memory operand
};

} // namespace kvmpp::x86::emulator::differential
