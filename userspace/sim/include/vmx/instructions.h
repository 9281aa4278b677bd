// SPDX-License-Identifier: GPL-2.0-only
// In front of the module's header of this name: the VMX instructions of the simulated processor.
#pragma once

#include "host/types.h"
#include "sim/vtx/processor.h"

namespace kvmpp::sim
{

// Of the calling thread's CPU.
u64 read_cr0();
u64 read_cr2();
void write_cr2(u64 value);
u64 read_cr3();
u64 read_cr4();

} // namespace kvmpp::sim

namespace kvmpp::vmx::instruction
{

void access_failed(const char *name, u32 field, u64 value);

inline bool vmxon(Hpa region)
{
	return sim::vtx::vmxon(region.value);
}

inline bool vmxoff()
{
	return sim::vtx::vmxoff();
}

inline bool vmclear(Hpa vmcs)
{
	return sim::vtx::vmclear(vmcs.value);
}

inline bool vmptrld(Hpa vmcs)
{
	return sim::vtx::vmptrld(vmcs.value);
}

inline bool vmwrite(u32 field, u64 value)
{
	if (sim::vtx::vmwrite(field, value))
		return true;
	access_failed("VMWRITE", field, value);
	return false;
}

inline u64 vmread(u32 field)
{
	u64 value;
	if (sim::vtx::vmread(field, value))
		return value;
	access_failed("VMREAD", field, 0);
	return 0;
}

enum class InveptType : u64 { single_context = 1, all_contexts = 2 };

inline bool invept(InveptType type, u64 ept_pointer)
{
	return sim::vtx::invept(static_cast<u64>(type), ept_pointer);
}

enum class InvvpidType : u64 { address = 0, single_context = 1, all_contexts = 2 };

inline bool invvpid(InvvpidType type, u16 vpid, Gva address)
{
	return sim::vtx::invvpid(static_cast<u64>(type), vpid, address.value);
}

inline u64 read_cr0()
{
	return sim::read_cr0();
}

inline u64 read_cr2()
{
	return sim::read_cr2();
}

inline void write_cr2(u64 value)
{
	sim::write_cr2(value);
}

inline u64 read_cr3()
{
	return sim::read_cr3();
}

inline u64 read_cr4()
{
	return sim::read_cr4();
}

} // namespace kvmpp::vmx::instruction
