// SPDX-License-Identifier: GPL-2.0-only
// The module comes and goes: not while a virtual machine lives, and without a trace.
#include <dirent.h>
#include <sys/stat.h>
#include <iterator>
#include "guest.h"
#include "modules.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");

// A number for all the names in the places where a module leaves traces.
u64 names_in(const char *directory)
{
	u64 sum = 0;
	if (DIR *listing = opendir(directory)) {
		while (dirent *entry = readdir(listing)) {
			u64 hash = 1469598103934665603ull;
			for (const char *c = entry->d_name; *c; ++c)
				hash = (hash ^ static_cast<u8>(*c)) * 1099511628211ull;
			sum += hash;
		}
		closedir(listing);
	}
	return sum;
}

constexpr const char *places[] = {"/dev", "/sys/module", "/sys/class/misc", "/sys/kernel/debug",
	"/sys/kernel/slab", "/sys/devices/virtual/misc", "/sys/kernel/debug/tracing/events"};

} // namespace

TEST(unload_is_refused_while_a_vm_lives)
{
	need_modules();
	{
		Guest guest{Mode::long_mode, halts};
		CHECK_EQ(unload(module_name()), -EAGAIN);
		guest.run_to_halt();
		guest.system.close();
		guest.vm.close();
		CHECK_EQ(unload(module_name()), -EAGAIN);
		guest.vcpu.close();
		// The run page is still mapped.
		CHECK_EQ(unload(module_name()), -EAGAIN);
	}
	usleep(50'000);
	unload_all();
	load_all();
}

TEST(unload_is_refused_while_the_device_is_open)
{
	need_modules();
	{
		System system;
		CHECK_EQ(unload(module_name()), -EAGAIN);
	}
	unload_all();
	load_all();
}

TEST(load_and_unload_leave_no_trace)
{
	need_modules();
	unload_all();
	u64 before[std::size(places)];
	for (unsigned i = 0; i < std::size(places); ++i)
		before[i] = names_in(places[i]);
	for (int round = 0; round < 3; ++round) {
		load_all();
		{
			Guest guest{Mode::long_mode, halts, Guest::with_irqchip};
		}
		{
			Guest guest{Mode::long_mode, halts};
			guest.run_to_halt();
		}
		usleep(50'000);
		unload_all();
		CHECK(access(device, F_OK) < 0);
	}
	for (unsigned i = 0; i < std::size(places); ++i)
		if (!CHECK(names_in(places[i]) == before[i]))
			note("in %s", places[i]);
	load_all();
}

TEST(a_second_load_is_refused)
{
	need_modules();
	CHECK_EQ(load(module_name()), -EEXIST);
}

TEST(the_minor_can_be_pinned)
{
	need_modules();
	if (!is_kvmpp())
		skip_test("for kvmpp");
	unload_all();
	load_all("minor=200");
	struct stat status {};
	CHECK(stat(device, &status) == 0);
	CHECK_EQ(status.st_rdev & 0xff, 200u);
	unload_all();
	load_all();
}
