// SPDX-License-Identifier: GPL-2.0-only
// How the opcode maps name operands: the letters of SDM vol. 2, A.2.
#pragma once

#include "host/types.h"

namespace kvmpp::x86::emulator
{

// Where an operand comes from.
enum class Source : u8 {
	none,
	rm,		// E: ModRM.rm, a general register or memory
	gpr_rm,		// R: ModRM.rm, a general register whatever ModRM.mod says
	memory,		// M: ModRM.rm, which must be memory; its handler accesses it
	reg,		// G: ModRM.reg
	segment,	// S: ModRM.reg, a segment register
	control,	// C: ModRM.reg, a control register
	debug,		// D: ModRM.reg, a debug register
	vector_reg,	// V: ModRM.reg, a vector register
	vector_rm,	// W: ModRM.rm, a vector register or memory
	mmx_reg,	// P: ModRM.reg
	mmx_rm,		// Q: ModRM.rm, an MMX register or memory
	vvvv,		// B: VEX.vvvv, a general register
	vector_vvvv,	// H: VEX.vvvv, a vector register
	opcode_reg,	// Z: low three bits of the opcode
	opcode_segment, // bits 5:3 of the opcode
	accumulator,
	count, // CL
	port,  // DX
	one,
	immediate,	  // I, zero-extended
	signed_immediate, // I, sign-extended to the operand size
	relative,	  // J: sign-extended distance from the next instruction
	offset,		  // O: memory, its offset in the instruction
};

// How wide it is.
enum class Width : u8 {
	none,
	b,  // byte
	w,  // 2 bytes
	d,  // 4 bytes
	q,  // 8 bytes
	v,  // by operand size: 2, 4, 8
	z,  // 2 bytes with an operand size of 2, otherwise 4
	y,  // 4 bytes, 8 with REX.W or VEX.W
	n,  // natural: 8 bytes in 64-bit mode, otherwise 4
	dq, // 16 bytes
	x,  // by vector length: 16, 32
};

struct Shape {
	Source source = Source::none;
	Width width = Width::none;

	constexpr bool operator==(const Shape &) const = default;
};

// What an operand has become in one decoded instruction.
struct Operand {
	enum class Kind : u8 {
		none,
		gpr,
		high_byte, // AH, CH, DH, BH by the number of the register they are part of
		memory,	   // of at most 8 bytes, at the instruction's effective address
		address,   // memory that the handler reads and writes itself
		constant,
		segment,
		control,
		debug,
		vector,
		mmx,
	};

	Kind kind = Kind::none;
	u8 number = 0;
	u8 size = 0;
	u64 value = 0;

	constexpr bool in_memory() const { return kind == Kind::memory || kind == Kind::address; }
};

// The shapes by their names in the manual.
namespace shape
{
inline constexpr Shape Eb{Source::rm, Width::b}, Ew{Source::rm, Width::w}, Ed{Source::rm, Width::d},
	Ev{Source::rm, Width::v}, Ez{Source::rm, Width::z}, Ey{Source::rm, Width::y},
	En{Source::rm, Width::n};
inline constexpr Shape Rn{Source::gpr_rm, Width::n};
inline constexpr Shape Gb{Source::reg, Width::b}, Gw{Source::reg, Width::w},
	Gd{Source::reg, Width::d}, Gv{Source::reg, Width::v}, Gz{Source::reg, Width::z},
	Gy{Source::reg, Width::y}, Gn{Source::reg, Width::n};
inline constexpr Shape By{Source::vvvv, Width::y};
inline constexpr Shape Zb{Source::opcode_reg, Width::b}, Zv{Source::opcode_reg, Width::v};
inline constexpr Shape AL{Source::accumulator, Width::b}, rAX{Source::accumulator, Width::v},
	eAX{Source::accumulator, Width::z}, AX{Source::accumulator, Width::w};
inline constexpr Shape CL{Source::count, Width::b}, DX{Source::port, Width::w},
	one{Source::one, Width::b};
inline constexpr Shape Ib{Source::immediate, Width::b}, Iw{Source::immediate, Width::w},
	Iv{Source::immediate, Width::v}, Ip{Source::immediate, Width::z};
inline constexpr Shape sIb{Source::signed_immediate, Width::b},
	Iz{Source::signed_immediate, Width::z};
inline constexpr Shape Jb{Source::relative, Width::b}, Jz{Source::relative, Width::z};
inline constexpr Shape Ob{Source::offset, Width::b}, Ov{Source::offset, Width::v};
inline constexpr Shape M{Source::memory, Width::v}, Mb{Source::memory, Width::b};
inline constexpr Shape Sw{Source::segment, Width::w}, Zs{Source::opcode_segment, Width::w};
inline constexpr Shape Cn{Source::control, Width::n}, Dn{Source::debug, Width::n};
inline constexpr Shape Vd{Source::vector_reg, Width::d}, Vq{Source::vector_reg, Width::q},
	Vdq{Source::vector_reg, Width::dq}, Vx{Source::vector_reg, Width::x},
	Vy{Source::vector_reg, Width::y};
inline constexpr Shape Wd{Source::vector_rm, Width::d}, Wq{Source::vector_rm, Width::q},
	Wdq{Source::vector_rm, Width::dq}, Wx{Source::vector_rm, Width::x};
inline constexpr Shape Hx{Source::vector_vvvv, Width::x}, Hdq{Source::vector_vvvv, Width::dq};
inline constexpr Shape Pd{Source::mmx_reg, Width::d}, Py{Source::mmx_reg, Width::y},
	Pq{Source::mmx_reg, Width::q}, Qq{Source::mmx_rm, Width::q};
} // namespace shape

} // namespace kvmpp::x86::emulator
