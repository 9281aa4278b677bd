// SPDX-License-Identifier: GPL-2.0-only
// An owned file descriptor, and ioctl on it with the request's name kept for errors.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/error.h"

namespace kvmpp::lib
{

class FileDescriptor {
public:
	FileDescriptor() = default;
	explicit FileDescriptor(int number) : number_{number} {}
	FileDescriptor(FileDescriptor &&other) noexcept : number_{std::exchange(other.number_, -1)}
	{}
	FileDescriptor &operator=(FileDescriptor &&other) noexcept
	{
		std::swap(number_, other.number_);
		return *this;
	}
	~FileDescriptor()
	{
		if (number_ >= 0)
			::close(number_);
	}

	int number() const { return number_; }
	explicit operator bool() const { return number_ >= 0; }

	// The ioctl's own non-negative answer. `name` is a literal: see LIBKVMPP_CONTROL.
	template <class Argument>
	Result<int> control(unsigned long request, const char *name, Argument argument) const
	{
		const int answer = ::ioctl(number_, request, argument);
		if (answer < 0) [[unlikely]]
			return failed(name);
		return answer;
	}

private:
	int number_ = -1;
};

} // namespace kvmpp::lib

#define LIBKVMPP_CONTROL(fd, request, argument) (fd).control(request, #request, argument)
