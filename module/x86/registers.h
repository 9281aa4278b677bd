// SPDX-License-Identifier: GPL-2.0-only
// The architectural registers of a processor, as a guest knows them. Bits of CR0, CR4 and RFLAGS
// are the UAPI's (X86_CR0_PE ...); what the UAPI does not name is named here.
#pragma once

#include <array>
#include <asm/processor-flags.h>
#include "host/types.h"

namespace kvmpp::x86
{

// General-purpose registers in the order of their encoding (SDM vol. 2, 2.1.5).
enum class Gpr : u8 { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };

struct Gprs {
	std::array<u64, 16> values{};

	constexpr u64 &operator[](Gpr name) { return values[static_cast<u8>(name)]; }
	constexpr u64 operator[](Gpr name) const { return values[static_cast<u8>(name)]; }
	constexpr bool operator==(const Gprs &) const = default;
};

// Segment registers in the order of their encoding; LDTR and TR follow.
enum class SegmentName : u8 { es, cs, ss, ds, fs, gs, ldtr, tr };
inline constexpr unsigned segment_count = 8;

// Attributes of a segment in the format of VMX access rights (SDM vol. 3, 25.4.1): bits 55:40 of a
// descriptor without the limit, and bit 16 for a register that holds none.
struct AccessRights {
	u32 raw = 0;

	static constexpr u32 unusable_bit = 1 << 16;

	constexpr unsigned type() const { return raw & 0xf; }
	constexpr bool s() const { return raw & (1 << 4); } // code or data, not system
	constexpr unsigned dpl() const { return raw >> 5 & 3; }
	constexpr bool present() const { return raw & (1 << 7); }
	constexpr bool available() const { return raw & (1 << 12); }
	constexpr bool long_mode() const { return raw & (1 << 13); }
	constexpr bool big() const { return raw & (1 << 14); } // D/B: 32-bit default
	constexpr bool granular() const { return raw & (1 << 15); }
	constexpr bool unusable() const { return raw & unusable_bit; }

	// For a code or data segment: its type's bits.
	constexpr bool code() const { return type() & 8; }
	constexpr bool conforming() const { return code() && (type() & 4); }
	constexpr bool expand_down() const { return !code() && (type() & 4); }
	constexpr bool readable() const { return !code() || (type() & 2); }
	constexpr bool writable() const { return !code() && (type() & 2); }

	constexpr bool operator==(const AccessRights &) const = default;
};

struct Segment {
	u16 selector = 0;
	u32 limit = 0; // in bytes, granularity applied
	u64 base = 0;
	AccessRights rights{};

	constexpr bool operator==(const Segment &) const = default;
};

struct DescriptorTable {
	u64 base = 0;
	u16 limit = 0;

	constexpr bool operator==(const DescriptorTable &) const = default;
};

// Bits of IA32_EFER (SDM vol. 3, 2.2.1).
namespace efer
{
inline constexpr u64 sce = 1 << 0, lme = 1 << 8, lma = 1 << 10, nx = 1 << 11;
}

// Exception vectors (SDM vol. 3, 6.3.1).
enum class Vector : u8 {
	divide_error = 0,
	debug = 1,
	nmi = 2,
	breakpoint = 3,
	overflow = 4,
	bound_range = 5,
	invalid_opcode = 6,
	device_not_available = 7,
	double_fault = 8,
	invalid_tss = 10,
	segment_not_present = 11,
	stack_fault = 12,
	general_protection = 13,
	page_fault = 14,
	x87_error = 16,
	alignment_check = 17,
	machine_check = 18,
	simd_error = 19,
	virtualization = 20,
	control_protection = 21,
};

// An exception to be delivered to the guest.
struct Exception {
	Vector vector{};
	bool has_error_code = false;
	u32 error_code = 0;
	u64 address = 0; // CR2, for a page fault

	constexpr bool operator==(const Exception &) const = default;

	static constexpr Exception plain(Vector vector) { return {vector, false, 0, 0}; }
	static constexpr Exception coded(Vector vector, u32 code) { return {vector, true, code, 0}; }
	static constexpr Exception gp(u32 code = 0) { return coded(Vector::general_protection, code); }
	static constexpr Exception ud() { return plain(Vector::invalid_opcode); }
	static constexpr Exception page_fault(u64 address, u32 code)
	{
		return {Vector::page_fault, true, code, address};
	}
};

// Error code of a page fault (SDM vol. 3, 4.7).
namespace page_fault_code
{
inline constexpr u32 present = 1, write = 2, user = 4, reserved = 8, fetch = 16, protection_key = 32;
}

enum class Mode : u8 { real, virtual8086, protected16, protected32, long64 };

} // namespace kvmpp::x86
