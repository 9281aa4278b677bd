// SPDX-License-Identifier: GPL-2.0-only
// Executes one instruction of a guest in software.
#pragma once

#include <optional>
#include "x86/emulator/guest.h"

namespace kvmpp::x86::emulator
{

// What became of an instruction besides its effect on the guest.
struct Executed {
	u8 bytes[15] = {};    // as fetched: the report to userspace when the instruction is unknown
	u8 byte_count = 0;    // how many of them are valid
	u8 length = 0;	      // of the instruction, once it was decoded
	bool retired = false; // false on success: rip is unchanged, the instruction goes on
};

// Fetches, decodes and executes the instruction at registers.rip. On success registers hold the
// state after it. An instruction that succeeded without retiring (REP between two iterations, a
// locked one that lost a race) is to be executed again after a look at interrupts. Single-step
// and debug-register traps after it are the caller's to raise.
Outcome<> execute(Guest &guest, Registers &registers, Executed &executed);

// An event for delivery through the interrupt table.
struct Event {
	enum class Kind : u8 {
		external,  // an interrupt from outside, or NMI
		exception, // rip is that of the instruction to restart, or the next of a trap
		software_interrupt,  // INT n, INT3, INTO: the gate's DPL is checked
		privileged_software, // INT1
	};

	u8 vector = 0;
	Kind kind = Kind::external;
	std::optional<u32> error_code;
};

// Delivers an event in software, from any mode into any mode; registers.rip is what the handler
// returns to. `exception`: delivery met with a fault of its own, which has been raised.
Outcome<> deliver(Guest &guest, Registers &registers, const Event &event);

// What asks for a task switch, numbered as VMX does (SDM vol. 3, table 28-2).
enum class TaskSwitch : u8 { call, iret, jump, interrupt_gate };

// Switches to the task of `selector`; registers.rip is what the old task resumes at. A fault that
// the new task is to handle has it in place already when it is raised.
Outcome<> switch_task(Guest &guest, Registers &registers, u16 selector, TaskSwitch reason,
	std::optional<u32> error_code);

} // namespace kvmpp::x86::emulator
