// SPDX-License-Identifier: GPL-2.0-only
// With a guest running on every CPU, hands the machine over to another kernel: in order (kexec), or in
// a crash (kdump, where the kernel was given crashkernel=). Neither passes a reset, so the other kernel
// gets the processors as they are: where VT-x is still on, its first CPU dies when it loads CR4, and
// the others ignore INIT. It says how it went; see testhost/jobs/hand-over, which also sets HAND_OVER
// (reboot or crash), KERNEL, INITRAMFS and WORDS.
#include <cstdlib>
#include <linux/reboot.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "running.h"
#include "successor.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(spin, 64, "sti\n 1: incl 0x10000\n pause\n jmp 1b");

const char *setting(const char *name)
{
	const char *value = getenv(name);
	if (!value)
		skip_test("%s is not set", name);
	return value;
}

void run_guest_on(unsigned cpu)
{
	stay_on(cpu);
	auto *guest = new Guest{Mode::long_mode, spin};
	new Running{*guest};
	CHECK(advances(guest->value<u32>(at::data)));
}

} // namespace

TEST(hand_over)
{
	bool crash = !strcmp(setting("HAND_OVER"), "crash");
	cpu_set_t all;
	REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
	load_successor(setting("KERNEL"), setting("INITRAMFS"), setting("WORDS"), crash);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
		if (CPU_ISSET(cpu, &all))
			run_guest_on(cpu);
	stay_on(0);
	if (crash) {
		note("expected of the kernel: sysrq triggered crash");
		// Until whoever follows both consoles has read that.
		sleep(3);
		CHECK_EQ(write_text("/proc/sysrq-trigger", "c"), 0);
	}
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, nullptr);
	// Nobody comes back from there.
	CHECK(false);
}
