// SPDX-License-Identifier: GPL-2.0-only
// What the processor and the emulator both start from, and what each makes of it. States lie in
// memory that the parent shares with the child which runs them natively.
#pragma once

#include "x86/emulator/guest.h"

namespace kvmpp::x86::emulator::differential
{

// Where things lie in the child. Nothing else is mapped in the arena, and states whose accesses
// would leave it are not run. Below 2 GiB, so that addresses of 32 bits reach everything.
inline constexpr u64 arena = 0x2000'0000, arena_size = 0x0400'0000;
inline constexpr u64 data_pages = 0x2200'0000, data_size = 2 * page_size; // readable, writable
inline constexpr u64 constant_page = data_pages + 0x4000;		  // readable
inline constexpr u64 code_page = 0x2300'0000; // executable; the page behind it is not there
inline constexpr u64 image_size = data_size + page_size; // data and constant, in this order
inline constexpr u64 gs_base = 0x2100'0000;

// XSAVE's image with x87, SSE and AVX state (SDM vol. 1, 13.4).
struct alignas(64) XsaveImage {
	u8 legacy[512] = {};
	u64 header[8] = {};
	u8 upper[16][16] = {};
};
static_assert(sizeof(XsaveImage) == 832);

// The part of memory that differs from the image every state starts from.
struct Changed {
	u32 from = 0, size = 0;
	u8 bytes[data_size] = {};

	bool operator==(const Changed &other) const
	{
		return size == other.size &&
		       (size == 0 || (from == other.from &&
					     __builtin_memcmp(bytes, other.bytes, size) == 0));
	}
};

struct Registers64 {
	u64 gpr[16] = {};
	u64 rip = 0, rflags = 0;
	u64 fs_base = 0, gs_base = 0;
	u16 ds = 0, es = 0;

	bool operator==(const Registers64 &) const = default;
};

struct Ending {
	static constexpr u8 no_vector = 0xff;

	Registers64 registers{};
	u64 address = 0; // of a page fault
	u32 error_code = 0;
	u8 vector = no_vector;
	Changed changed{};
	XsaveImage extended{};
};

struct State {
	Registers64 registers{};
	u8 code[24] = {};
	u8 code_size = 0;
	bool run = true;	   // false: not to be run natively
	bool falls_through = true; // the instruction after it is the next to be executed
	bool uses_extended = false, uses_segments = false;
	u32 poke_at = 0, poke_size = 0; // what is put into the image before it starts
	u8 poke[32] = {};
	XsaveImage extended{};
};

inline constexpr unsigned batch_size = 128;

struct Batch {
	u32 count = 0;
	u32 at = 0; // of the child
	u8 image[image_size] = {};
	State states[batch_size];
	Ending results[batch_size];
};

} // namespace kvmpp::x86::emulator::differential
