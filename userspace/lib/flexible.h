// SPDX-License-Identifier: GPL-2.0-only
// Structs of the ABI that end in an array of a length told by their first member.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include "lib/types.h"

namespace kvmpp::lib
{

template <class Header, class Element>
class Flexible {
public:
	// All zero but for the count, which every such struct begins with.
	explicit Flexible(std::size_t count)
		: memory_{static_cast<Header *>(
			  std::calloc(1, sizeof(Header) + count * sizeof(Element)))},
		  count_{count}
	{
		if (!memory_)
			throw std::bad_alloc{};
		*reinterpret_cast<u32 *>(memory_.get()) = static_cast<u32>(count);
	}

	Header *get() const { return memory_.get(); }
	Header *operator->() const { return memory_.get(); }
	std::span<Element> elements() const
	{
		return {reinterpret_cast<Element *>(memory_.get() + 1), count_};
	}

private:
	struct Free {
		void operator()(void *memory) const { std::free(memory); }
	};

	std::unique_ptr<Header, Free> memory_;
	std::size_t count_;
};

} // namespace kvmpp::lib
