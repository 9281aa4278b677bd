// SPDX-License-Identifier: GPL-2.0-only
// The kernel's small text files: what they say, and telling them something.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include "harness.h"

namespace kvmpp::selftests
{

// The whole of a file, cut off at `size`; empty if there is none.
inline u64 read_text(const char *path, char *to, u64 size)
{
	u64 length = 0;
	to[0] = '\0';
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return 0;
	for (ssize_t got; length < size - 1 && (got = read(file, to + length, size - 1 - length)) > 0;)
		length += static_cast<u64>(got);
	close(file);
	to[length] = '\0';
	return length;
}

// 0, or a negative errno.
inline int write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	if (file < 0)
		return -errno;
	int answer = write(file, text, strlen(text)) < 0 ? -errno : 0;
	close(file);
	return answer;
}

} // namespace kvmpp::selftests
