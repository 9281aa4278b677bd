// SPDX-License-Identifier: GPL-2.0-only
#include "sim/user/files.h"

#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include "api/entry.h"
#include "sim/cpu/cpus.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/user/eventfd.h"
#include "sim/user/memory.h"

namespace kvmpp::sim
{
namespace
{

enum class Kind : u8 { vm, vcpu, statistics };

struct File {
	Kind kind;
	void *owner;
	std::string name;
	bool installed = false;
	long long offset = 0;

	~File()
	{
		if (!installed)
			return;
		InKernel kernel;
		switch (kind) {
		case Kind::vm: kvmpp_vm_release(owner); break;
		case Kind::vcpu: kvmpp_vcpu_release(owner); break;
		case Kind::statistics: kvmpp_statistics_release(owner); break;
		}
	}
};

std::mutex lock;
// A system call holds the file it uses, whoever closes it meanwhile.
std::map<int, std::shared_ptr<File>> &table()
{
	static std::map<int, std::shared_ptr<File>> all;
	return all;
}

std::atomic<u64> created{0}, destroyed{0};
std::atomic<s64> directories{0};

std::shared_ptr<File> file_at(int fd)
{
	std::lock_guard guard{lock};
	const auto found = table().find(fd);
	return found != table().end() && found->second->installed ? found->second : nullptr;
}

int prepare(kvmpp_new_file *out, Kind kind, void *owner, std::string name)
{
	might_sleep("a new file");
	if (fails_now(Fallible::host_call))
		return -EMFILE;
	auto file = std::make_shared<File>(kind, owner, std::move(name));
	std::lock_guard guard{lock};
	int fd = first_free_descriptor();
	while (table().contains(fd))
		++fd;
	*out = {.fd = fd, .file = file.get()};
	table()[fd] = std::move(file);
	return 0;
}

} // namespace

long system_ioctl(unsigned command, unsigned long argument)
{
	InKernel kernel;
	return kvmpp_system_ioctl(command, argument);
}

long ioctl(int fd, unsigned command, unsigned long argument)
{
	if (fd == system_descriptor)
		return system_ioctl(command, argument);
	const auto file = file_at(fd);
	if (!file)
		return -EBADF;
	InKernel kernel;
	switch (file->kind) {
	case Kind::vm: return kvmpp_vm_ioctl(file->owner, command, argument);
	case Kind::vcpu: return kvmpp_vcpu_ioctl(file->owner, command, argument);
	default: return -ENOTTY;
	}
}

long ioctl_with_argument(int fd, unsigned command, void *argument, usize size)
{
	UserArgument memory{argument, size};
	return ioctl(fd, command, reinterpret_cast<unsigned long>(argument));
}

int close(int fd)
{
	if (is_eventfd(fd)) {
		close_eventfd(fd);
		return 0;
	}
	// Its release, if this was the last use, comes without the lock.
	std::shared_ptr<File> file;
	std::lock_guard guard{lock};
	const auto found = table().find(fd);
	if (found == table().end() || !found->second->installed)
		return -EBADF;
	file = std::move(found->second);
	table().erase(found);
	return 0;
}

long read(int fd, void *buffer, usize size)
{
	const auto file = file_at(fd);
	if (!file || file->kind != Kind::statistics)
		return -EBADF;
	UserArgument memory{buffer, size};
	InKernel kernel;
	return kvmpp_statistics_read(
		file->owner, reinterpret_cast<unsigned long>(buffer), size, &file->offset);
}

void *mapped_page(int fd, unsigned long index)
{
	const auto file = file_at(fd);
	if (!file || file->kind != Kind::vcpu)
		return nullptr;
	InKernel kernel;
	return kvmpp_vcpu_page(file->owner, index);
}

bool may_map_private(int fd, unsigned long first, unsigned long count)
{
	const auto file = file_at(fd);
	InKernel kernel;
	return file && file->kind == Kind::vcpu && !kvmpp_vcpu_shows_dirty_ring(file->owner, first, count);
}

std::string file_name(int fd)
{
	const auto file = file_at(fd);
	return file ? file->name : "";
}

FileCounts file_counts()
{
	FileCounts counts = eventfd_counts();
	std::lock_guard guard{lock};
	for (const auto &[fd, file] : table())
		++(file->installed ? counts.files : counts.reserved);
	return counts;
}

VisibleCounts visible_counts()
{
	return {created, destroyed, directories};
}

} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_file_prepare_vm(kvmpp_new_file *file, void *vm)
{
	return sim::prepare(file, sim::Kind::vm, vm, "kvm-vm");
}

int kvmpp_file_prepare_vcpu(kvmpp_new_file *file, void *vcpu, __u32 id)
{
	return sim::prepare(file, sim::Kind::vcpu, vcpu, "kvm-vcpu:" + std::to_string(id));
}

int kvmpp_file_prepare_statistics(kvmpp_new_file *file, const char *name, void *statistics)
{
	return sim::prepare(file, sim::Kind::statistics, statistics, name);
}

void kvmpp_file_install(const kvmpp_new_file *file)
{
	std::lock_guard guard{sim::lock};
	sim::table().at(file->fd)->installed = true;
}

void kvmpp_file_abandon(const kvmpp_new_file *file)
{
	std::lock_guard guard{sim::lock};
	sim::table().erase(file->fd);
}

void kvmpp_uevent(int is_creation, __u64, __u64, __s32)
{
	++(is_creation ? sim::created : sim::destroyed);
}

void *kvmpp_debugfs_directory(const char *)
{
	sim::might_sleep("debugfs");
	if (sim::fails_now(sim::Fallible::host_call))
		return nullptr;
	++sim::directories;
	return new char;
}

void kvmpp_debugfs_counters(void *, const char *, const kvmpp_counters *)
{
	sim::might_sleep("debugfs");
}

void kvmpp_debugfs_remove(void *directory)
{
	sim::might_sleep("debugfs");
	if (!directory)
		return;
	--sim::directories;
	delete static_cast<char *>(directory);
}
