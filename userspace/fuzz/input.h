// SPDX-License-Identifier: GPL-2.0-only
// A fuzzer's input, taken piece by piece. Its end reads as zeros.
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <span>
#include "host/types.h"

namespace kvmpp::fuzz
{

class Input {
public:
	Input(const u8 *data, usize size) : rest_{data, size} {}

	bool empty() const { return rest_.empty(); }
	usize size() const { return rest_.size(); }

	template <class T = u8>
	T take()
	{
		T value{};
		take_into(&value, sizeof(value));
		return value;
	}
	void take_into(void *to, usize size)
	{
		const usize bytes = std::min(size, rest_.size());
		std::memcpy(to, rest_.data(), bytes);
		rest_ = rest_.subspan(bytes);
	}
	// 0 to count - 1.
	unsigned choose(unsigned count) { return take<u8>() % count; }
	template <class T>
	T one_of(std::initializer_list<T> values)
	{
		return values.begin()[choose(static_cast<unsigned>(values.size()))];
	}
	// A number as hypervisors meet them: small, near a power of two, or anything.
	u64 number()
	{
		const u8 kind = take<u8>();
		switch (kind >> 6) {
		case 0: return kind & 63;
		case 1: return take<u16>();
		case 2: return bit(kind & 63) + static_cast<u64>(static_cast<s64>(take<s8>()));
		default: return take<u64>();
		}
	}

private:
	std::span<const u8> rest_;
};

} // namespace kvmpp::fuzz
