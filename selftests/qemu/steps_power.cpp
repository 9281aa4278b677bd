// SPDX-License-Identifier: GPL-2.0-only
#include "step.h"
#include "steps.h"

namespace kvmpp::qemu
{

void has_no_complaints(Machine &machine)
{
	Step step{"its kernel has nothing to complain about"};
	EXPECT(machine.ask("complaints") == "");
}

void reboots(Machine &machine)
{
	{
		Step step{"it reboots"};
		machine.begin("umount /mnt; reboot -f");
		machine.qmp().wait_for("RESET");
		machine.wait_for_guest();
	}
	Step step{"its disk is as it left it"};
	EXPECT(machine.ask("test ! -e /tmp/when && mount -t ext2 /dev/vda /mnt && cat /mnt/when") ==
		"before\n");
	machine.ask("in_guest read /mnt/file 0 3 4194304 && umount /mnt");
	EXPECT(machine.ask("complaints") == "");
}

void powers_off(Machine &machine)
{
	Step step{"it powers off"};
	machine.begin("poweroff -f");
	EXPECT(machine.exit_status() == 0);
}

} // namespace kvmpp::qemu
