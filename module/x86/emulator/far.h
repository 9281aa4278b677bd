// SPDX-License-Identifier: GPL-2.0-only
// Pieces of control transfers between segments, privilege levels and tasks.
#pragma once

#include "x86/emulator/descriptor.h"

namespace kvmpp::x86::emulator
{

struct FarPointer {
	u16 selector = 0;
	u64 offset = 0;
};

// From the memory operand.
Outcome<FarPointer> read_far_pointer(Execution &x);

// MOV to a segment register other than CS, in any mode.
Outcome<> load_segment(Execution &x, SegmentName name, u16 selector);

// A stack to push on that becomes the current one when all has gone well.
struct Stack {
	Segment segment{};
	u64 pointer = 0;
	unsigned width = 0;	    // of the pointer
	bool loads_segment = false; // SS changes with it
	Access access = Access::write;
	u16 fault_selector = 0; // for #SS

	// The first value highest. A fault leaves memory as it was.
	Outcome<> push(Execution &x, std::span<const u64> values, unsigned size);
	void make_current(Execution &x) const;
};

// In IA-32e mode as the 64-bit code sees it that is going to use it.
Stack current_stack(Execution &x);
// The stack that the TSS holds for a privilege level; in IA-32e mode `ist` chooses another.
Outcome<Stack> inner_stack(Execution &x, unsigned level, unsigned ist);

// Whether `offset` is code in that segment; #GP(0) otherwise.
Outcome<> check_offset(Execution &x, const Descriptor &code, u64 offset);
// In IA-32e mode no segment has both L and D.
bool valid_code(Execution &x, const Descriptor &descriptor);

// The transfer itself: CS, with the privilege level as its RPL, and RIP.
void enter_code(Execution &x, const Descriptor &code, u16 selector, unsigned cpl, u64 offset);

// A task switch in the midst of an instruction; see switch_task() for the rest.
Outcome<> switch_task(Execution &x, u16 selector, TaskSwitch reason, std::optional<u32> error_code);
// The back link of the current TSS, for IRET with RFLAGS.NT.
Outcome<u16> previous_task(Execution &x);

Outcome<> deliver(Execution &x, const Event &event);

} // namespace kvmpp::x86::emulator
