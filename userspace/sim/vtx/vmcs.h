// SPDX-License-Identifier: GPL-2.0-only
// A VMCS as the processor sees it.
#pragma once

#include <array>
#include "sim/vtx/processor.h"
#include "vmx/field.h"

namespace kvmpp::sim::vtx
{

struct Vmcs {
	static constexpr int nowhere = -1;

	u64 address = 0;
	bool cleared = false; // once at least: before that its contents mean nothing
	bool launched = false;
	int active_on = nowhere; // the CPU that may cache parts of it
	// At its last entry: accesses to the APIC were taken, and how many INVEPTs the CPU had executed.
	bool took_apic_accesses = false;
	u64 invepts = 0;
	std::array<u64, 1024> fields{};

	static constexpr unsigned place_of(u32 encoding)
	{
		return (encoding >> 13 & 3) << 8 | (encoding >> 10 & 3) << 6 | (encoding >> 1 & 63);
	}
	u64 &operator[](u32 encoding) { return fields[place_of(encoding)]; }
	u64 operator[](u32 encoding) const { return fields[place_of(encoding)]; }

	template <class F>
	typename F::Value get(F) const
	{
		return F::from_register((*this)[F::encoding]);
	}
	template <class F>
	void set(F, typename F::Value value)
	{
		(*this)[F::encoding] = F::to_register(value);
	}
};

// Fields that the simulated processor has (SDM vol. 3, appendix B).
bool field_exists(u32 encoding);

// VMfail with this error, by the current VMCS if there is one (SDM vol. 3, 31.2). Always false.
bool fail(Processor &processor, Error error);
// At each instruction: whether it fails because a test wants it to.
bool fails_on_purpose();
// For refusals without a number of their own, and entries.
void note_refusal(const char *why);
void note_guest_refusal(const char *why);

} // namespace kvmpp::sim::vtx
