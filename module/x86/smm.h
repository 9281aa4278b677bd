// SPDX-License-Identifier: GPL-2.0-only
// System management mode: the state that an SMI saves and RSM loads, and where in SMRAM its parts are.
// SDM vol. 3, chapter 31; AMD64 Architecture Programmer's Manual vol. 2, chapter 10.
#pragma once

#include <array>
#include "x86/registers.h"

namespace kvmpp::x86
{

struct SmmState {
	Gprs gprs{};
	u64 rip = 0, rflags = 0;
	u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
	u64 dr6 = 0, dr7 = 0;
	std::array<Segment, segment_count> segments{}; // by SegmentName
	DescriptorTable gdt{}, idt{};
	u32 base = 0; // SMBASE
	// The SMI came while the processor was halted; RSM: it halts again.
	bool halted = false;
	// Interrupts were held off for an instruction, by STI or MOV SS.
	bool after_sti = false, after_mov_ss = false;

	Segment &operator[](SegmentName name) { return segments[static_cast<u8>(name)]; }
	const Segment &operator[](SegmentName name) const { return segments[static_cast<u8>(name)]; }
	constexpr bool operator==(const SmmState &) const = default;
};

namespace smm
{

inline constexpr u32 default_base = 0x30000, entry_point = 0x8000;

// A processor with long mode has another layout than one without; both end at SMBASE + 64 KiB.
enum class Layout : u8 { narrow, wide };
inline constexpr u32 area_offset = 0xfe00, area_size = 0x200;
using Area = std::array<u8, area_size>;

void store(const SmmState &state, Layout layout, Area &area);
// What was there, with reserved bits as the processor has them.
SmmState load(const Area &area, Layout layout);

// What the guest's CPUID allows.
struct Limits {
	u64 cr4_allowed, efer_allowed;
	unsigned physical_bits;
};
// Whether a processor can be in that state. RSM to another shuts it down (SDM vol. 3, 31.3.2).
bool possible(const SmmState &state, const Limits &limits);

} // namespace smm

} // namespace kvmpp::x86
