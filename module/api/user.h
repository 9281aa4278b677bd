// SPDX-License-Identifier: GPL-2.0-only
// Arguments of ioctls: copied in once, used from the copy, copied out.
#pragma once

#include "host/memory.h"
#include "host/user_memory.h"

namespace kvmpp::api
{

// The result of a system call.
inline long to_long(const Result<> &result)
{
	return result ? 0 : -result.error().value();
}

inline long to_long(const Result<long> &result)
{
	return result ? *result : -result.error().value();
}

// Calls use(copy of the argument).
template <class T, class Use>
Result<> with_input(unsigned long argument, Use &&use)
{
	const T input = TRY(host::user_get<T>(Hva{argument}));
	return use(input);
}

// Calls use(zeroed T) and copies it out if that succeeds.
template <class T, class Use>
Result<> with_output(unsigned long argument, Use &&use)
{
	T output{};
	TRY(use(output));
	return host::user_put(Hva{argument}, output);
}

template <class T, class Use>
Result<> with_in_out(unsigned long argument, Use &&use)
{
	T value = TRY(host::user_get<T>(Hva{argument}));
	TRY(use(value));
	return host::user_put(Hva{argument}, value);
}

// The same for what is too large for the stack.
template <class T, class Use>
Result<> with_large_input(unsigned long argument, Use &&use)
{
	auto input = TRY(host::make<T>());
	TRY(host::user_read(input.get(), Hva{argument}, sizeof(T)));
	return use(*input);
}

template <class T, class Use>
Result<> with_large_output(unsigned long argument, Use &&use)
{
	auto output = TRY(host::make<T>());
	TRY(use(*output));
	return host::user_write(Hva{argument}, output.get(), sizeof(T));
}

// A struct that ends in an array of Item: its address.
template <class Header, class Item>
Hva items_of(unsigned long argument)
{
	static_assert(sizeof(Header) % alignof(Item) == 0);
	return Hva{argument + sizeof(Header)};
}

template <class Item>
Result<host::Array<Item>> get_items(Hva from, usize count)
{
	auto items = TRY(host::Array<Item>::create(count));
	TRY(host::user_read(items.data(), from, count * sizeof(Item)));
	return items;
}

} // namespace kvmpp::api
