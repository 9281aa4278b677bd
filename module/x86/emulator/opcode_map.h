// SPDX-License-Identifier: GPL-2.0-only
// The rows of the opcode maps, and how an opcode finds its row.
#pragma once

#include <array>
#include <span>
#include "x86/emulator/guest.h"
#include "x86/emulator/operand.h"

namespace kvmpp::x86::emulator
{

struct Execution;
using Handler = Outcome<>(Execution &);

// An opcode as a row names it: a byte, or a range of bytes that share a row, with ModRM.reg and
// ModRM.rm where these belong to the opcode. 0xff_x / 2 is the manual's "FF /2"; 0x01_x / 7 / 0 is
// "0F 01 F8".
struct Opcode {
	static constexpr u8 any = 0xff;

	u8 first;
	u8 last;
	u8 reg = any;
	u8 rm = any;

	constexpr bool covers(u8 opcode) const { return first <= opcode && opcode <= last; }
};

consteval Opcode operator""_x(unsigned long long byte)
{
	return {static_cast<u8>(byte), static_cast<u8>(byte)};
}

consteval Opcode operator/(Opcode opcode, int digit)
{
	const u8 value = static_cast<u8>(digit);
	if (opcode.reg == Opcode::any)
		opcode.reg = value;
	else
		opcode.rm = value;
	return opcode;
}

// Opcodes with a register in their low three bits, and with a condition in their low four.
consteval Opcode r(unsigned byte)
{
	return {static_cast<u8>(byte), static_cast<u8>(byte + 7)};
}

consteval Opcode cc(unsigned byte)
{
	return {static_cast<u8>(byte), static_cast<u8>(byte + 15)};
}

consteval Opcode to(Opcode first, Opcode last)
{
	return {first.first, last.last};
}

// What must hold for a row to be the one, one bit for each possibility of a property; the first
// row of which everything holds counts.
namespace when
{
using Condition = u16;
inline constexpr Condition np = 1 << 0, p66 = 1 << 1, pf3 = 1 << 2, pf2 = 1 << 3; // prefix
inline constexpr Condition mem = 1 << 4, reg = 1 << 5;				  // ModRM.mod
inline constexpr Condition m64 = 1 << 6, m32 = 1 << 7; // 64-bit mode, or any other
inline constexpr Condition l0 = 1 << 8, l1 = 1 << 9;   // VEX.L
inline constexpr Condition w0 = 1 << 10, w1 = 1 << 11; // REX.W or VEX.W

inline constexpr Condition properties[] = {
	np | p66 | pf3 | pf2, mem | reg, m64 | m32, l0 | l1, w0 | w1};
} // namespace when

// What an instruction demands and does.
namespace rule
{
using Rules = u32;
inline constexpr Rules update = 1 << 0, // the first operand is read and written;
	store = 1 << 1,			// it is only written; without either it is only read
	manual = 1 << 2,		// the handler loads and stores operands itself
	lock = 1 << 3,			// LOCK is allowed where the first operand is memory
	no64 = 1 << 4,			// #UD in 64-bit mode
	only64 = 1 << 5,		// #UD elsewhere
	d64 = 1 << 6,			// operand size is 8 by default in 64-bit mode
	f64 = 1 << 7,			// and cannot be changed
	pm = 1 << 8,			// #UD in real-address and virtual-8086 mode
	cpl0 = 1 << 9,			// #GP outside privilege level 0
	cpl0_ud = 1 << 10,		// #UD there
	umip = 1 << 11,			// #GP there with CR4.UMIP
	x87 = 1 << 12,			// #NM with CR0.EM or CR0.TS
	mmx = 1 << 13,			// MMX state
	sse = 1 << 14,			// SSE state
	avx = 1 << 15,			// AVX state, VEX-encoded
	aligned = 1 << 16,		// a vector in memory must lie at a multiple of its size
	plain = 1 << 17,  // a plain move: between memory and register it takes the short way
	extend = 1 << 18, // which extends the sign
	waits = 1 << 19;  // #MF first of all if an x87 exception is pending
} // namespace rule

// Instructions that a processor may lack, by their CPUID bit.
enum class Feature : u8 {
	always,
	popcnt,
	movbe,
	sse4_2,
	lzcnt,
	bmi1,
	bmi2,
	adx,
	smap,
	rdtscp,
	rdpid,
	fsgsbase,
	cx16,
	wbnoinvd,
};

struct Operands {
	Shape shape[3]{};

	constexpr Operands() = default;
	constexpr Operands(Shape first, Shape second = {}, Shape third = {})
		: shape{first, second, third}
	{}
};

struct Row {
	Opcode opcode;
	when::Condition condition = 0;
	Handler *handler;
	Operands operands;
	rule::Rules rules = 0;
	Feature feature = Feature::always;

	constexpr Row(Opcode opcode_, Handler *handler_, Operands operands_ = {},
		rule::Rules rules_ = 0, Feature feature_ = Feature::always)
		: Row{opcode_, 0, handler_, operands_, rules_, feature_}
	{}

	constexpr Row(Opcode opcode_, when::Condition condition_, Handler *handler_,
		Operands operands_ = {}, rule::Rules rules_ = 0, Feature feature_ = Feature::always)
		: opcode{opcode_}, condition{condition_}, handler{handler_}, operands{operands_},
		  rules{rules_}, feature{feature_}
	{
		// A property that the row leaves open may have any value.
		for (when::Condition property : when::properties)
			if (!(condition & property))
				condition |= property;
	}

	constexpr bool has_source(Source low, Source high) const
	{
		for (Shape shape : operands.shape)
			if (low <= shape.source && shape.source <= high)
				return true;
		return false;
	}

	constexpr bool has_modrm() const
	{
		constexpr when::Condition mod = when::mem | when::reg;
		return opcode.reg != Opcode::any || (condition & mod) != mod ||
		       has_source(Source::rm, Source::mmx_rm);
	}

	constexpr bool matches(u8 byte, when::Condition facts, u8 modrm) const
	{
		return opcode.covers(byte) && (condition & facts) == facts &&
		       (opcode.reg == Opcode::any || opcode.reg == (modrm >> 3 & 7)) &&
		       (opcode.rm == Opcode::any || (opcode.rm == (modrm & 7) && modrm >= 0xc0));
	}
};

// One map: its rows in order of opcode, and where each opcode's begin.
class OpcodeMap {
public:
	template <usize n>
	consteval explicit OpcodeMap(const Row (&rows)[n]) : rows_{rows}
	{
		for (usize i = 0; i < n; ++i) {
			if (i > 0 && rows[i].opcode.first < rows[i - 1].opcode.first)
				out_of_order();
			for (unsigned byte = rows[i].opcode.first; byte <= rows[i].opcode.last;
				++byte) {
				Index &index = index_[byte];
				if (index.first == none)
					index.first = static_cast<u16>(i);
				index.modrm |= rows[i].has_modrm();
			}
		}
	}

	constexpr bool has_modrm(u8 opcode) const { return index_[opcode].modrm; }

	constexpr const Row *find(u8 opcode, when::Condition facts, u8 modrm) const
	{
		for (usize i = index_[opcode].first; i < rows_.size(); ++i) {
			if (rows_[i].opcode.first > opcode)
				break;
			if (rows_[i].matches(opcode, facts, modrm))
				return &rows_[i];
		}
		return nullptr;
	}

	constexpr std::span<const Row> rows() const { return rows_; }

private:
	static constexpr u16 none = 0x7fff;
	struct Index {
		u16 first : 15 = none;
		u16 modrm : 1 = 0;
	};

	static void out_of_order(); // not constexpr: a map that gets here does not compile

	std::span<const Row> rows_;
	std::array<Index, 256> index_{};
};

// SDM vol. 2, tables; the VEX maps stand by themselves.
extern const OpcodeMap one_byte_map, two_byte_map, map_0f38, map_0f3a, vex_0f, vex_0f38, vex_0f3a;

} // namespace kvmpp::x86::emulator
