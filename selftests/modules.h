// SPDX-License-Identifier: GPL-2.0-only
// Loading and unloading the module under test and the kernel's own KVM. Needs the directory of their
// files in the environment variable MODULES, and the rights to load them.
#pragma once

#include <cstdlib>
#include <sys/syscall.h>
#include "files.h"
#include "kvm.h"

namespace kvmpp::selftests
{

inline bool is_kvmpp()
{
	return strstr(device, "kvmpp") != nullptr;
}

inline const char *module_name()
{
	return is_kvmpp() ? "kvmpp" : "kvm_intel";
}

inline int unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) < 0 ? -errno : 0;
}

inline int load(const char *name, const char *parameters = "")
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s.ko", getenv("MODULES"), name);
	Fd file{open(path, O_RDONLY | O_CLOEXEC)};
	if (file.number() < 0)
		return -errno;
	return syscall(SYS_finit_module, file.number(), parameters, 0) < 0 ? -errno : 0;
}

inline bool has_module(const char *name)
{
	const char *directory = getenv("MODULES");
	char path[256];
	snprintf(path, sizeof path, "%s/%s.ko", directory ? directory : "", name);
	return directory && access(path, R_OK) == 0;
}

// The node is made a moment after its module is there.
inline void wait_for_node(const char *path)
{
	for (int tries = 0; tries < 200 && access(path, F_OK) < 0; ++tries)
		usleep(10'000);
}

inline void need_modules()
{
	if (!has_module(module_name()) || geteuid() != 0)
		skip_test("no module to load here");
}

// A VM that was just closed lets go of its module a moment later; a thread that brought a page in when it comes to
// its end.
inline int unload_soon(const char *name)
{
	int answer;
	for (int tries = 0; (answer = unload(name)) == -EAGAIN && tries < 3000; ++tries)
		usleep(10'000);
	return answer;
}

// The module under test; for kvm_intel its lower half as well, so that nothing of it is left.
inline void unload_all()
{
	REQUIRE_EQ(unload(module_name()), 0);
	if (!is_kvmpp())
		REQUIRE_EQ(unload("kvm"), 0);
}

inline void load_all(const char *parameters = "")
{
	if (!is_kvmpp())
		REQUIRE_EQ(load("kvm"), 0);
	REQUIRE_EQ(load(module_name(), parameters), 0);
	wait_for_node(device);
}

// The kernel's own KVM, beside the module under test.
inline void load_peer()
{
	load("irqbypass");
	load("kvm");
	REQUIRE_EQ(load("kvm_intel"), 0);
	wait_for_node("/dev/kvm");
}

inline void unload_peer()
{
	CHECK_EQ(unload_soon("kvm_intel"), 0);
	CHECK_EQ(unload_soon("kvm"), 0);
}

} // namespace kvmpp::selftests
