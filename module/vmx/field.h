// SPDX-License-Identifier: GPL-2.0-only
// A field of the VMCS as a type: its encoding, who may write it, and the type of its value. What
// does not fit does not compile. SDM vol. 3, 25.11.2 and appendix B.
#pragma once

#include <bit>
#include <type_traits>
#include "host/types.h"

namespace kvmpp::vmx
{

enum class FieldKind : u8 { control = 0, exit_information = 1, guest_state = 2, host_state = 3 };
enum class FieldWidth : u8 { w16 = 0, w64 = 1, w32 = 2, natural = 3 };

template <FieldKind kind_, FieldWidth width_, unsigned index, class Value_>
struct Field {
	using Value = Value_;

	static constexpr FieldKind kind = kind_;
	static constexpr FieldWidth width = width_;
	static constexpr u32 encoding = static_cast<u32>(width) << 13 | static_cast<u32>(kind) << 10 |
					index << 1;
	static constexpr bool writable = kind != FieldKind::exit_information;

	static_assert(index < 512);
	static_assert(std::is_trivially_copyable_v<Value>);
	static_assert(sizeof(Value) == (width == FieldWidth::w16 ? 2 : width == FieldWidth::w32 ? 4 : 8),
		"a field's value has the field's width");

	// The registers of VMREAD and VMWRITE are 64 bits wide; the field's value is their low part.
	static constexpr Value from_register(u64 raw)
	{
		if constexpr (sizeof(Value) == 8)
			return std::bit_cast<Value>(raw);
		else if constexpr (sizeof(Value) == 4)
			return std::bit_cast<Value>(static_cast<u32>(raw));
		else
			return std::bit_cast<Value>(static_cast<u16>(raw));
	}

	static constexpr u64 to_register(Value value)
	{
		if constexpr (sizeof(Value) == 8)
			return std::bit_cast<u64>(value);
		else if constexpr (sizeof(Value) == 4)
			return std::bit_cast<u32>(value);
		else
			return std::bit_cast<u16>(value);
	}
};

template <unsigned index, class Value = u16>
using Control16 = Field<FieldKind::control, FieldWidth::w16, index, Value>;
template <unsigned index, class Value = u64>
using Control64 = Field<FieldKind::control, FieldWidth::w64, index, Value>;
template <unsigned index, class Value = u32>
using Control32 = Field<FieldKind::control, FieldWidth::w32, index, Value>;
template <unsigned index, class Value = u64>
using ControlNatural = Field<FieldKind::control, FieldWidth::natural, index, Value>;

template <unsigned index, class Value = u64>
using Exit64 = Field<FieldKind::exit_information, FieldWidth::w64, index, Value>;
template <unsigned index, class Value = u32>
using Exit32 = Field<FieldKind::exit_information, FieldWidth::w32, index, Value>;
template <unsigned index, class Value = u64>
using ExitNatural = Field<FieldKind::exit_information, FieldWidth::natural, index, Value>;

template <unsigned index, class Value = u16>
using Guest16 = Field<FieldKind::guest_state, FieldWidth::w16, index, Value>;
template <unsigned index, class Value = u64>
using Guest64 = Field<FieldKind::guest_state, FieldWidth::w64, index, Value>;
template <unsigned index, class Value = u32>
using Guest32 = Field<FieldKind::guest_state, FieldWidth::w32, index, Value>;
template <unsigned index, class Value = u64>
using GuestNatural = Field<FieldKind::guest_state, FieldWidth::natural, index, Value>;

template <unsigned index, class Value = u16>
using Host16 = Field<FieldKind::host_state, FieldWidth::w16, index, Value>;
template <unsigned index, class Value = u64>
using Host64 = Field<FieldKind::host_state, FieldWidth::w64, index, Value>;
template <unsigned index, class Value = u32>
using Host32 = Field<FieldKind::host_state, FieldWidth::w32, index, Value>;
template <unsigned index, class Value = u64>
using HostNatural = Field<FieldKind::host_state, FieldWidth::natural, index, Value>;

} // namespace kvmpp::vmx
