// SPDX-License-Identifier: GPL-2.0-only
// Ownership of memory. Every allocation can fail, and says so with ENOMEM.
#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <utility>
#include "host/result.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::host
{

// The one owner of a T on the heap.
template <class T>
class Own {
    public:
	constexpr Own() = default;
	constexpr Own(std::nullptr_t) {}
	constexpr explicit Own(T *object) : object_{object} {}
	constexpr Own(Own &&other) : object_{std::exchange(other.object_, nullptr)} {}
	Own &operator=(Own &&other)
	{
		Own old{std::exchange(object_, std::exchange(other.object_, nullptr))};
		return *this;
	}
	~Own()
	{
		if (object_) {
			object_->~T();
			kvmpp_free(object_);
		}
	}

	T *get() const { return object_; }
	T &operator*() const { return *object_; }
	T *operator->() const { return object_; }
	explicit operator bool() const { return object_ != nullptr; }
	[[nodiscard]] T *release() { return std::exchange(object_, nullptr); }

    private:
	T *object_ = nullptr;
};

// A T on the heap. Its constructor cannot fail; what can is a static create() of T.
template <class T, class... Arguments>
Result<Own<T>> make(Arguments &&...arguments)
{
	static_assert(alignof(T) <= 8, "kvmpp_alloc promises no more");
	void *memory = kvmpp_alloc(sizeof(T));
	if (!memory)
		return fail(ENOMEM);
	return Own<T>{::new (memory) T{std::forward<Arguments>(arguments)...}};
}

// A fixed number of T, chosen at run time.
template <class T>
class Array {
    public:
	constexpr Array() = default;
	Array(Array &&other)
		: data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)}
	{
	}
	Array &operator=(Array &&other)
	{
		std::swap(data_, other.data_);
		std::swap(size_, other.size_);
		return *this;
	}
	~Array()
	{
		for (usize i = size_; i > 0; --i)
			data_[i - 1].~T();
		kvmpp_free(data_);
	}

	static Result<Array> create(usize size)
	{
		usize total;
		if (__builtin_mul_overflow(size, sizeof(T), &total))
			return fail(ENOMEM);
		Array array;
		if (size == 0)
			return array;
		array.data_ = static_cast<T *>(kvmpp_alloc(total));
		if (!array.data_)
			return fail(ENOMEM);
		for (; array.size_ < size; ++array.size_)
			::new (&array.data_[array.size_]) T{};
		return array;
	}

	usize size() const { return size_; }
	bool empty() const { return size_ == 0; }
	T *data() { return data_; }
	const T *data() const { return data_; }
	T &operator[](usize i) { return data_[i]; }
	const T &operator[](usize i) const { return data_[i]; }
	T *begin() { return data_; }
	T *end() { return data_ + size_; }
	const T *begin() const { return data_; }
	const T *end() const { return data_ + size_; }
	std::span<T> span() { return {data_, size_}; }
	std::span<const T> span() const { return {data_, size_}; }

    private:
	T *data_ = nullptr;
	usize size_ = 0;
};

// One page of memory that a processor or a VMM's mmap sees: zeroed, page-aligned.
class Page {
    public:
	constexpr Page() = default;
	Page(Page &&other) : memory_{std::exchange(other.memory_, nullptr)} {}
	Page &operator=(Page &&other)
	{
		std::swap(memory_, other.memory_);
		return *this;
	}
	~Page()
	{
		if (memory_)
			kvmpp_pages_free(memory_, 0);
	}

	// On the given NUMA node where possible; -1: the caller's.
	static Result<Page> create(int node = -1)
	{
		Page page;
		page.memory_ = kvmpp_page_alloc(node);
		if (!page.memory_)
			return fail(ENOMEM);
		return page;
	}

	explicit operator bool() const { return memory_ != nullptr; }
	void *data() const { return memory_; }
	template <class T>
	T *as() const
	{
		static_assert(sizeof(T) <= page_size);
		return static_cast<T *>(memory_);
	}
	Hpa physical() const { return {reinterpret_cast<u64>(memory_) - kvmpp_direct_map}; }
	[[nodiscard]] void *release() { return std::exchange(memory_, nullptr); }

    private:
	void *memory_ = nullptr;
};

// A page of ours, by the address that a table entry holds.
inline void *from_physical(Hpa address)
{
	return reinterpret_cast<void *>(address.value + kvmpp_direct_map);
}

} // namespace kvmpp::host
