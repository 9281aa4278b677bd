// SPDX-License-Identifier: GPL-2.0-only
// VT-x of one simulated processor. SDM vol. 3, chapters 24 to 28 and 31.
#pragma once

#include "host/types.h"

namespace kvmpp::sim::vtx
{

struct Vmcs;

struct Processor {
	bool on = false; // in VMX operation
	u64 vmxon_region = ~u64{0};
	Vmcs *current = nullptr;
	u64 invepts = 0;
};

// VM-instruction error numbers, SDM vol. 3, 31.4.
enum class Error : u32 {
	vmcall_in_root = 1,
	vmclear_address = 2,
	vmclear_vmxon_pointer = 3,
	launch_not_clear = 4,
	resume_not_launched = 5,
	entry_controls = 7,
	entry_host_state = 8,
	vmptrld_address = 9,
	vmptrld_vmxon_pointer = 10,
	vmptrld_revision = 11,
	unsupported_field = 12,
	read_only_field = 13,
	vmxon_in_root = 15,
	invept_operand = 28,
};

// The instructions, on the calling thread's CPU. False: VMfail, or a fault because VT-x is off. What
// is undefined by the SDM, such as a VMCS that is active on two CPUs, ends the test.
bool vmxon(u64 region);
bool vmxoff();
bool vmclear(u64 address);
bool vmptrld(u64 address);
bool vmread(u32 field, u64 &value);
bool vmwrite(u32 field, u64 value);
bool invept(u64 type, u64 ept_pointer);
bool invvpid(u64 type, u16 vpid, u64 address);

// How many the calling thread has executed.
struct Counts {
	u64 reads = 0, writes = 0, entries = 0, others = 0;

	Counts operator-(const Counts &before) const
	{
		return {reads - before.reads, writes - before.writes, entries - before.entries,
			others - before.others};
	}
	bool operator==(const Counts &) const = default;
};
Counts &counts();

// Of all threads since the last reset: instructions that the processor refused, entries included, but
// for entries with a guest state or an event that cannot be. A core that works causes none while VT-x
// is its own.
u64 refusals();
// Entries of that kind: the core lets a VMM set some of what a processor refuses.
u64 guest_refusals();
// Why an entry was refused last, in the words of the SDM's section.
const char *last_refusal();
void reset_refusals();

// Processors in VMX operation, and VMCSs that one of them may cache parts of.
unsigned processors_on();
unsigned active_vmcss();

} // namespace kvmpp::sim::vtx
