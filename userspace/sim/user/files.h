// SPDX-License-Identifier: GPL-2.0-only
// Descriptors of the simulated process: VMs, vCPUs, statistics, eventfds. System calls by number.
#pragma once

#include <span>
#include <string>
#include <linux/kvm.h>
#include "host/types.h"

namespace kvmpp::sim
{

// As ioctl(2): the result, or a negative errno. The argument is a value, or memory of the caller of
// exactly `size` bytes.
long system_ioctl(unsigned command, unsigned long argument = 0);
long ioctl(int fd, unsigned command, unsigned long argument = 0);
template <class T>
long system_ioctl(unsigned command, T *argument, usize size = sizeof(T));
template <class T>
long ioctl(int fd, unsigned command, T *argument, usize size = sizeof(T));

// As close(2). 0, or -EBADF.
int close(int fd);
long read(int fd, void *buffer, usize size);
// What an mmap of a vCPU's descriptor shows; nullptr beyond its end.
void *mapped_page(int fd, unsigned long index);
// Whether an mmap of those pages may be private or executable.
bool may_map_private(int fd, unsigned long first, unsigned long count);
std::string file_name(int fd);

// An eventfd of the process.
int make_eventfd();
void signal_eventfd(int fd);
// Its count, which becomes 0.
u64 take_eventfd(int fd);

// What must be none in the end: open descriptors, references to eventfds, watches of them.
struct FileCounts {
	usize files = 0, reserved = 0, eventfds = 0, eventfd_references = 0, eventfd_watches = 0;
	bool operator==(const FileCounts &) const = default;
};
FileCounts file_counts();

// KOBJ_CHANGE events and directories in debugfs so far.
struct VisibleCounts {
	u64 created = 0, destroyed = 0;
	s64 directories = 0;
};
VisibleCounts visible_counts();

long ioctl_with_argument(int fd, unsigned command, void *argument, usize size);
inline constexpr int system_descriptor = -2;

template <class T>
long system_ioctl(unsigned command, T *argument, usize size)
{
	return ioctl_with_argument(system_descriptor, command, argument, size);
}

template <class T>
long ioctl(int fd, unsigned command, T *argument, usize size)
{
	return ioctl_with_argument(fd, command, argument, size);
}

} // namespace kvmpp::sim
