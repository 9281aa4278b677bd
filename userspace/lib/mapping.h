// SPDX-License-Identifier: GPL-2.0-only
// An owned piece of this process's address space: guest memory, or a vCPU's shared page.
#pragma once

#include <span>
#include "lib/error.h"
#include "lib/file_descriptor.h"
#include "lib/types.h"

namespace kvmpp::lib
{

class Mapping {
public:
	// Memory for a guest: zeroed, reserved without being committed, and laid out so that huge
	// pages of the host can back it.
	static Result<Mapping> guest_memory(std::size_t size);

	// Memory that forked processes share; the host backs it with small pages.
	static Result<Mapping> shared_memory(std::size_t size);

	static Result<Mapping> of_file(const FileDescriptor &file, std::size_t size);

	Mapping() = default;
	Mapping(Mapping &&other) noexcept
		: start_{std::exchange(other.start_, nullptr)}, size_{std::exchange(other.size_, 0)}
	{}
	Mapping &operator=(Mapping &&other) noexcept
	{
		std::swap(start_, other.start_);
		std::swap(size_, other.size_);
		return *this;
	}
	~Mapping();

	std::byte *data() const { return start_; }
	std::size_t size() const { return size_; }
	std::span<std::byte> bytes() const { return {start_, size_}; }

private:
	Mapping(std::byte *start, std::size_t size) : start_{start}, size_{size} {}

	std::byte *start_ = nullptr;
	std::size_t size_ = 0;
};

} // namespace kvmpp::lib
