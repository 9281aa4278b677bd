// SPDX-License-Identifier: GPL-2.0-only
// VT-x is taken away while guests run, or held by somebody else on a CPU that comes up: what needs it
// fails, in order, and once the VMs are gone all is well again. Needs the module vtx_thief.
#include "modules.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(spin, 64, "sti\n 1: incl 0x10000\n pause\n jmp 1b");
GUEST_CODE(halts, 64, "1: inc %ebx\n hlt\n jmp 1b");

#define CPU1 "/sys/devices/system/cpu/cpu1/online"

void need_thief()
{
	if (!is_kvmpp())
		skip_test("for kvmpp");
	if (!has_module("vtx_thief") || geteuid() != 0)
		skip_test("no vtx_thief here");
	if (access(CPU1, W_OK) < 0)
		skip_test("one CPU here");
	write_text(CPU1, "1");
	unload("vtx_thief");
}

void steal_from(unsigned cpu)
{
	char parameters[32];
	snprintf(parameters, sizeof parameters, "off_cpu=%u", cpu);
	REQUIRE_EQ(load("vtx_thief", parameters), 0);
	REQUIRE_EQ(unload("vtx_thief"), 0);
}

// KVM_RUN failed, or says that the guest could not be entered.
void check_refused(const Guest &guest, int answer)
{
	if (answer == 0)
		CHECK_EQ(guest.vcpu->exit_reason, static_cast<u32>(KVM_EXIT_FAIL_ENTRY));
	else
		CHECK(answer == -EIO || answer == -EBUSY);
}

void check_all_cpus()
{
	for (unsigned cpu : {0u, 1u}) {
		stay_on(cpu);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
	}
}

} // namespace

TEST(an_idle_vcpu_finds_vt_x_gone)
{
	need_thief();
	{
		stay_on(1);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		steal_from(1);
		check_refused(guest, guest.vcpu.enter());
		check_refused(guest, guest.vcpu.enter());
		// Whatever else it is asked; what the answers hold is nobody's promise.
		kvm_regs regs;
		kvm_sregs sregs;
		kvm_vcpu_events events;
		guest.vcpu.call(KVM_GET_REGS, &regs);
		guest.vcpu.call(KVM_GET_SREGS, &sregs);
		guest.vcpu.call(KVM_SET_SREGS, &sregs);
		guest.vcpu.call(KVM_GET_VCPU_EVENTS, &events);
		// A new VM, while the old one keeps kvmpp from seeing that anything has changed: its VMCS
		// cannot be loaded.
		Vm vm{guest.system};
		Vcpu vcpu{guest.system, vm};
		CHECK_EQ(vcpu.enter(), -EIO);
	}
	check_all_cpus();
}

TEST(a_running_vcpu_loses_vt_x)
{
	need_thief();
	{
		stay_on(0);
		Guest other{Mode::long_mode, halts};
		other.run_to_halt();
		stay_on(1);
		Guest guest{Mode::long_mode, spin};
		{
			Running running{guest};
			stay_on(0);
			CHECK(advances(guest.value<u32>(at::data)));
			steal_from(1);
			for (int tries = 0; tries < 3000 && running.exits < 3; ++tries)
				usleep(1000);
			CHECK(running.exits >= 3);
			check_refused(guest, running.finish());
		}
		// The CPU that was left alone goes on.
		other.run_to_halt();
	}
	check_all_cpus();
}

TEST(a_vcpu_whose_vmcs_was_there_moves_away)
{
	need_thief();
	{
		stay_on(1);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		steal_from(1);
		// Its state was in the processor; whether it can be had is open, and nothing breaks.
		stay_on(0);
		guest.vcpu.enter();
		Guest fresh{Mode::long_mode, halts};
		fresh.run_to_halt();
	}
	check_all_cpus();
}

TEST(a_cpu_goes_offline_without_its_vt_x)
{
	need_thief();
	{
		stay_on(1);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		steal_from(1);
		stay_on(0);
		REQUIRE_EQ(write_text(CPU1, "0"), 0);
		REQUIRE_EQ(write_text(CPU1, "1"), 0);
		// It came back with VT-x.
		stay_on(1);
		Guest fresh{Mode::long_mode, halts};
		fresh.run_to_halt();
	}
	check_all_cpus();
}

TEST(a_cpu_that_another_holds_stays_offline)
{
	need_thief();
	{
		stay_on(0);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		REQUIRE_EQ(write_text(CPU1, "0"), 0);
		REQUIRE_EQ(load("vtx_thief", "held_cpu=1"), 0);
		CHECK_EQ(write_text(CPU1, "1"), -EBUSY);
		char text[8];
		read_text(CPU1, text, sizeof text);
		CHECK_EQ(text[0], '0');
		guest.run_to_halt();
		REQUIRE_EQ(unload("vtx_thief"), 0);
		CHECK_EQ(write_text(CPU1, "1"), 0);
	}
	check_all_cpus();
}

TEST(a_cpu_that_another_holds_keeps_vms_from_being_made)
{
	need_thief();
	stay_on(0);
	REQUIRE_EQ(write_text(CPU1, "0"), 0);
	REQUIRE_EQ(load("vtx_thief", "held_cpu=1"), 0);
	// Without a VM nobody minds.
	CHECK_EQ(write_text(CPU1, "1"), 0);
	{
		System system;
		CHECK_EQ(system.call(KVM_CREATE_VM, 0), -EBUSY);
	}
	CHECK_EQ(write_text(CPU1, "0"), 0);
	REQUIRE_EQ(unload("vtx_thief"), 0);
	CHECK_EQ(write_text(CPU1, "1"), 0);
	check_all_cpus();
}
