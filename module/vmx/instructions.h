// SPDX-License-Identifier: GPL-2.0-only
// The VMX instructions, SDM vol. 3, chapter 31. Each may fail by VMfail (CF or ZF) or fault, when
// something took VT-x away from under us; both are errors, never an oops. userspace/sim has a header
// of the same name in front of this one.
#pragma once

#include "host/types.h"
#include "host_layout.h"

namespace kvmpp::vmx::instruction
{

// Reports a VMREAD or VMWRITE that the processor refused; limited in rate.
void access_failed(const char *name, u32 field, u64 value);

// One entry of the kernel's exception table: a fault at `from` continues at `to`.
#define KVMPP_EXCEPTION_ENTRY(from, to)                                                            \
	".pushsection __ex_table, \"a\"\n"                                                         \
	".balign 4\n"                                                                              \
	".long (" from ") - .\n"                                                                   \
	".long (" to ") - .\n"                                                                     \
	".long %c[type]\n"                                                                         \
	".popsection\n"

// Instructions with one operand or two that set CF or ZF on failure.
#define KVMPP_VMX_INSTRUCTION(text, ...)                                                           \
	asm volatile goto("1: " text "\n"                                                          \
			  "jna %l[failed]\n" KVMPP_EXCEPTION_ENTRY("1b", "%l[failed]")             \
			  :                                                                        \
			  : [type] "i"(KVMPP_EX_TYPE_DEFAULT), __VA_ARGS__                               \
			  : "cc", "memory"                                                         \
			  : failed)

inline bool vmxon(Hpa region)
{
	KVMPP_VMX_INSTRUCTION("vmxon %[region]", [region] "m"(region.value));
	return true;
failed:
	return false;
}

inline bool vmxoff()
{
	KVMPP_VMX_INSTRUCTION("vmxoff", "i"(0));
	return true;
failed:
	return false;
}

inline bool vmclear(Hpa vmcs)
{
	KVMPP_VMX_INSTRUCTION("vmclear %[vmcs]", [vmcs] "m"(vmcs.value));
	return true;
failed:
	return false;
}

inline bool vmptrld(Hpa vmcs)
{
	KVMPP_VMX_INSTRUCTION("vmptrld %[vmcs]", [vmcs] "m"(vmcs.value));
	return true;
failed:
	return false;
}

inline bool vmwrite(u32 field, u64 value)
{
	KVMPP_VMX_INSTRUCTION("vmwrite %[value], %[field]", [field] "r"(u64{field}), [value] "rm"(value));
	return true;
failed:
	access_failed("VMWRITE", field, value);
	return false;
}

inline u64 vmread(u32 field)
{
	u64 value;
	asm volatile goto("1: vmread %[field], %[value]\n"
			  "jna %l[failed]\n" KVMPP_EXCEPTION_ENTRY("1b", "%l[failed]")
			  : [value] "=r"(value)
			  : [type] "i"(KVMPP_EX_TYPE_DEFAULT), [field] "r"(u64{field})
			  : "cc"
			  : failed);
	// gcc 12 may move the output's use above an asm goto (PR 113921); an empty asm holds it.
	asm("");
	return value;
failed:
	access_failed("VMREAD", field, 0);
	return 0;
}

enum class InveptType : u64 { single_context = 1, all_contexts = 2 };

inline bool invept(InveptType type, u64 ept_pointer)
{
	const struct {
		u64 ept_pointer, reserved;
	} descriptor{ept_pointer, 0};
	KVMPP_VMX_INSTRUCTION("invept %[descriptor], %[kind]", [descriptor] "m"(descriptor),
		[kind] "r"(static_cast<u64>(type)));
	return true;
failed:
	return false;
}

enum class InvvpidType : u64 { address = 0, single_context = 1, all_contexts = 2 };

inline bool invvpid(InvvpidType type, u16 vpid, Gva address)
{
	const struct {
		u64 vpid, address;
	} descriptor{vpid, address.value};
	KVMPP_VMX_INSTRUCTION("invvpid %[descriptor], %[kind]", [descriptor] "m"(descriptor),
		[kind] "r"(static_cast<u64>(type)));
	return true;
failed:
	return false;
}

// Registers of the processor that a world switch has to look at.
[[gnu::always_inline]] inline u64 read_cr0()
{
	u64 value;
	asm volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

[[gnu::always_inline]] inline u64 read_cr2()
{
	u64 value;
	asm volatile("mov %%cr2, %0" : "=r"(value));
	return value;
}

[[gnu::always_inline]] inline void write_cr2(u64 value)
{
	asm volatile("mov %0, %%cr2" : : "r"(value) : "memory");
}

[[gnu::always_inline]] inline u64 read_cr3()
{
	u64 value;
	asm volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

[[gnu::always_inline]] inline u64 read_cr4()
{
	u64 value;
	asm volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

} // namespace kvmpp::vmx::instruction
