// SPDX-License-Identifier: GPL-2.0-only
// Integers by width, and addresses that cannot be mistaken for one another.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <linux/types.h>

namespace kvmpp
{

// The same types as the UAPI's __u64 and kin, so that struct fields pass by reference.
using u8 = __u8;
using u16 = __u16;
using u32 = __u32;
using u64 = __u64;
using s8 = __s8;
using s16 = __s16;
using s32 = __s32;
using s64 = __s64;
using usize = std::size_t;

// Before a variable that its constructor sets as a whole, where every instruction counts: kernels built with
// CONFIG_INIT_STACK_ALL_ZERO clear it first all the same.
#define KVMPP_CONSTRUCTED __attribute__((uninitialized))

inline constexpr unsigned page_shift = 12;
inline constexpr u64 page_size = u64{1} << page_shift;

constexpr u64 bit(unsigned n)
{
	return u64{1} << n;
}

// The bits [low, high] of a 64-bit word.
constexpr u64 bits(unsigned high, unsigned low)
{
	return (~u64{0} >> (63 - high)) & (~u64{0} << low);
}

// An address in one of the address spaces; Tag keeps them apart.
template <class Tag>
struct Address {
	u64 value = 0;

	constexpr auto operator<=>(const Address &) const = default;
	constexpr Address operator+(u64 bytes) const { return {value + bytes}; }
	constexpr Address operator-(u64 bytes) const { return {value - bytes}; }
	constexpr u64 operator-(Address other) const { return value - other.value; }
	constexpr u64 offset() const { return value & (page_size - 1); }
	constexpr Address page() const { return {value & ~(page_size - 1)}; }
	constexpr bool aligned(u64 size) const { return (value & (size - 1)) == 0; }
};

// A 4 KiB frame of such an address space.
template <class Tag>
struct Frame {
	u64 number = 0;

	constexpr auto operator<=>(const Frame &) const = default;
	constexpr Frame operator+(u64 frames) const { return {number + frames}; }
	constexpr Frame operator-(u64 frames) const { return {number - frames}; }
	constexpr u64 operator-(Frame other) const { return number - other.number; }
	constexpr Address<Tag> address() const { return {number << page_shift}; }
};

template <class Tag>
constexpr Frame<Tag> frame_of(Address<Tag> address)
{
	return {address.value >> page_shift};
}

using Gva = Address<struct GuestLinear>;   // what the guest's paging translates
using Gpa = Address<struct GuestPhysical>; // what EPT translates
using Hva = Address<struct HostUser>;	   // the VMM's memory
using Hpa = Address<struct HostPhysical>;
using Gfn = Frame<struct GuestPhysical>;
using Pfn = Frame<struct HostPhysical>;

} // namespace kvmpp
