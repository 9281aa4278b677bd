// SPDX-License-Identifier: GPL-2.0-only
// Which values CR0, CR4, EFER and their combinations may take. SDM vol. 3, 2.5, 4.1 and 9.8.5.
#pragma once

#include "host/types.h"
#include "x86/registers.h"

namespace kvmpp::x86
{

// Bits that change how addresses are translated: a write that changes one drops translations.
inline constexpr u64 cr0_paging_bits = X86_CR0_PG | X86_CR0_WP;
inline constexpr u64 cr4_paging_bits = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE |
				       X86_CR4_SMEP | X86_CR4_SMAP;
// Bits whose change reloads the PDPTEs under PAE paging (SDM vol. 3, 4.4.1).
inline constexpr u64 cr0_pdpte_bits = X86_CR0_CD | X86_CR0_NW | X86_CR0_PG;
inline constexpr u64 cr4_pdpte_bits = X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_SMEP;

inline constexpr u64 cr0_defined = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET |
				   X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD |
				   X86_CR0_PG;

// The value by itself; reserved bits of the low half are the caller's to ignore or refuse.
constexpr bool cr0_valid(u64 cr0)
{
	if (cr0 & bits(63, 32))
		return false;
	if (cr0 & X86_CR0_NW && !(cr0 & X86_CR0_CD))
		return false;
	return !(cr0 & X86_CR0_PG && !(cr0 & X86_CR0_PE));
}

constexpr bool uses_pdptes(u64 cr0, u64 cr4, u64 efer)
{
	return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & efer::lma);
}

// The four entries that PAE paging keeps in the processor.
constexpr bool pdpte_valid(u64 pdpte, unsigned physical_bits)
{
	constexpr u64 present = 1, reserved_low = bits(2, 1) | bits(8, 5);
	return !(pdpte & present) || !(pdpte & (reserved_low | bits(63, physical_bits)));
}

// CR3 without the PCID's no-flush bit; the reserved bits depend on the mode.
constexpr bool cr3_valid(u64 cr3, u64 efer, unsigned physical_bits)
{
	return !(efer & efer::lma) || !(cr3 & bits(63, physical_bits));
}

// What a MOV to CR0 does to EFER.LMA.
constexpr u64 efer_after_cr0(u64 efer, u64 cr0)
{
	const bool active = efer & efer::lme && cr0 & X86_CR0_PG;
	return active ? efer | efer::lma : efer & ~efer::lma;
}

// All of them at once, as SET_SREGS brings them: the state must be one that a processor can be in. As KVM,
// this does not ask of CR4.PCIDE whether IA-32e mode is active; the processor does, at entry.
struct ControlState {
	u64 cr0, cr3, cr4, efer;
	u64 cr4_allowed;
	unsigned physical_bits;
	bool cs_long, cs_default_big;
};

constexpr bool consistent(const ControlState &state)
{
	if (!cr0_valid(state.cr0) || state.cr4 & ~state.cr4_allowed)
		return false;
	const bool paging = state.cr0 & X86_CR0_PG;
	const bool lma = state.efer & efer::lma;
	if (state.efer & efer::lme && paging) {
		if (!(state.cr4 & X86_CR4_PAE) || !lma)
			return false;
		if (!cr3_valid(state.cr3, state.efer, state.physical_bits))
			return false;
		if (state.cs_long && state.cs_default_big)
			return false;
	} else if (lma || state.cs_long) {
		return false;
	}
	return true;
}

} // namespace kvmpp::x86
