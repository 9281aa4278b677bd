// SPDX-License-Identifier: GPL-2.0-only
// Every form of an instruction that the opcode maps hold for 64-bit mode: an opcode with its
// mandatory prefix, operand size, and register or memory operand.
#pragma once

#include <optional>
#include <string>
#include <vector>
#include "x86/emulator/instruction.h"

namespace kvmpp::x86::emulator::differential
{

struct Map {
	const char *prefix; // as the manual writes it
	const OpcodeMap *map;
	u8 escape[2];
	u8 vex; // VEX.mmmmm; 0: not VEX-encoded
};

struct Form {
	const Map *map = nullptr;
	const Row *row = nullptr;
	u8 opcode = 0;
	u8 prefix = 0; // 66, F2, F3 or none
	bool w = false;
	bool l = false;
	bool memory = false; // meaningful with ModRM
	bool lock = false;

	bool is(Handler *handler) const { return row->handler == handler; }
	template <class... Handlers>
	bool is_one_of(Handlers &...handlers) const
	{
		return ((row->handler == &handlers) || ...);
	}
	std::string name() const;
};

std::vector<Form> all_forms();

// Why a form does not run natively in user mode; nullptr: it does.
const char *cannot_run(const Form &form);
// Which feature of the processor it needs and this one lacks; nullptr: none.
const char *lacks(const Form &form);

// Status flags that are undefined after an instruction (SDM vol. 1, appendix A). `count` is that of
// a shift, masked as the processor does.
u64 undefined_flags(const Instruction &instruction, unsigned count);
// Whether all of its result is undefined.
bool undefined_result(const Instruction &instruction, unsigned count);

} // namespace kvmpp::x86::emulator::differential
