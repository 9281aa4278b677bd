// SPDX-License-Identifier: GPL-2.0-only
// An instruction as decoded from its bytes, before any register is looked at.
#pragma once

#include <span>
#include "x86/emulator/opcode_map.h"

namespace kvmpp::x86::emulator
{

inline constexpr unsigned max_instruction_bytes = 15; // SDM vol. 2, 2.3.11

// A memory operand's address, as ModRM and SIB say it.
struct EffectiveAddress {
	static constexpr u8 none = 0xff, rip = 0xfe;

	u8 base = none;
	u8 index = none;
	u8 scale = 0; // as a shift
	SegmentName segment = SegmentName::ds;
	s64 displacement = 0;
};

enum class Repeat : u8 { none, while_not_equal, while_equal }; // no prefix, F2, F3

struct Instruction {
	const Row *row = nullptr;
	u8 length = 0;
	u8 opcode = 0;
	u8 operand_size = 0; // bytes
	u8 address_size = 0;
	u8 vector_size = 16;
	bool lock = false;
	bool vex = false;
	bool operand_prefix = false; // 66
	Repeat repeat = Repeat::none;
	SegmentName data_segment = SegmentName::ds; // DS or what a prefix puts in its place
	EffectiveAddress address{};
	Operand operands[3]{};
};

enum class Decoded : u8 {
	complete,
	truncated, // more bytes are needed
	undefined, // #UD whatever follows
	unknown,   // no row in the maps
};

// `code` holds at most 15 bytes; the instruction's length and operands are valid after `complete`.
Decoded decode(Instruction &instruction, std::span<const u8> code, Mode mode);

} // namespace kvmpp::x86::emulator
