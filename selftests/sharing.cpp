// SPDX-License-Identifier: GPL-2.0-only
// VT-x is one, and there may be two hypervisors: whoever comes second is refused, and whoever has it
// notices nothing. With exclusive=0 kvmpp takes it only while a vCPU runs.
#include "interrupts.h"
#include "modules.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: inc %ebx\n hlt\n jmp 1b");
GUEST_CODE(spin, 64, "sti\n 1: incl 0x10000\n pause\n jmp 1b");
// With an APIC, so that the kernel waits.
GUEST_CODE(sleep_for_ever, 64, APIC_ENABLE "movb $1, 0x10000\n 1: sti\n hlt\n jmp 1b");
GUEST_CODE(sleep_once, 64, APIC_ENABLE "movb $1, 0x10000\n" WAIT_FOR_INTERRUPTS(1) REPORT);

constexpr const char *peer = "/dev/kvm";

// The emulated machine takes seconds to load KVM, so it stays where the order does not matter.
enum Order { kvmpp_first, peer_first, any_order };

bool is_loaded(const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "/sys/module/%s", name);
	return access(path, F_OK) == 0;
}

// Both modules, kvmpp anew.
void load_both(Order order, const char *parameters = "")
{
	need_modules();
	if (!is_kvmpp())
		skip_test("for kvmpp");
	if (!has_module("kvm_intel"))
		skip_test("no kvm_intel here");
	if (order != any_order) {
		unload_soon("kvm_intel");
		unload_soon("kvm");
	}
	unload_soon("kvmpp");
	if (order != kvmpp_first && !is_loaded("kvm_intel"))
		load_peer();
	load_all(parameters);
	if (order == kvmpp_first)
		load_peer();
}

// A guest of that device.
struct GuestOn {
	GuestOn(const char *path, const Code &code, Guest::With what = Guest::without)
		: ours(std::exchange(device, path)), guest(Mode::long_mode, code, what)
	{
		device = ours;
	}

	const char *ours;
	Guest guest;
};

int create_vm(const char *path)
{
	Fd system{open(path, O_RDWR | O_CLOEXEC)};
	REQUIRE(system.number() >= 0);
	Fd vm{system.call(KVM_CREATE_VM, 0)};
	return vm.number() >= 0 ? 0 : -errno;
}

// KVM gives VT-x back a moment after its last VM was closed.
int create_vm_soon(const char *path)
{
	int answer;
	for (int tries = 0; (answer = create_vm(path)) == -EBUSY && tries < 100; ++tries)
		usleep(10'000);
	return answer;
}

int enter_soon(Guest &guest)
{
	int answer;
	for (int tries = 0; (answer = guest.vcpu.enter()) == -EBUSY && tries < 100; ++tries)
		usleep(10'000);
	return answer;
}

// Each holds VMs, one of them running, while the other tries.
void check_turns(const char *holder, const char *other)
{
	{
		GuestOn idle{holder, halts}, busy{holder, spin};
		idle.guest.run_to_halt();
		{
			Running running{busy.guest};
			wait_for(busy.guest.value<u8>(at::data));
			for (int i = 0; i < 3; ++i)
				CHECK_EQ(create_vm(other), -EBUSY);
			u32 before = busy.guest.value<u32>(at::data);
			usleep(20'000);
			CHECK(busy.guest.value<u32>(at::data) != before);
			CHECK_EQ(running.finish(), -EINTR);
		}
		for (int i = 0; i < 3; ++i) {
			CHECK_EQ(create_vm(other), -EBUSY);
			idle.guest.run_to_halt();
		}
		CHECK_EQ(idle.guest.vcpu.regs().rbx, 4u);
	}
	CHECK_EQ(create_vm_soon(other), 0);
}

void check_both_turns()
{
	check_turns(device, peer);
	check_turns(peer, device);
}

} // namespace

TEST(turns_where_kvmpp_was_loaded_first)
{
	load_both(kvmpp_first);
	check_both_turns();
}

TEST(turns_where_kvm_intel_was_loaded_first)
{
	load_both(peer_first);
	check_both_turns();
	CHECK_EQ(unload_soon("kvmpp"), 0);
	// The one that stays is as it was.
	CHECK_EQ(create_vm(peer), 0);
	load_all();
}

TEST(kvmpp_comes_and_goes_while_kvm_intel_runs_a_guest)
{
	load_both(any_order);
	{
		GuestOn theirs{peer, spin};
		Running running{theirs.guest};
		CHECK_EQ(unload_soon("kvmpp"), 0);
		load_all();
		CHECK_EQ(create_vm(device), -EBUSY);
		CHECK_EQ(running.finish(), -EINTR);
	}
}

TEST(kvm_intel_comes_and_goes_while_kvmpp_runs_a_guest)
{
	load_both(any_order);
	unload_peer();
	GuestOn ours{device, spin};
	Running running{ours.guest};
	load_peer();
	CHECK_EQ(create_vm(peer), -EBUSY);
	unload_peer();
	CHECK_EQ(running.finish(), -EINTR);
}

TEST(exclusive_0_leaves_vt_x_free_between_runs)
{
	load_both(any_order, "exclusive=0");
	{
		GuestOn ours{device, halts};
		for (int i = 0; i < 3; ++i) {
			ours.guest.run_to_halt();
			{
				// Our VM lives, and its vCPU has run.
				GuestOn theirs{peer, halts};
				theirs.guest.run_to_halt();
				// Now it is theirs.
				CHECK_EQ(ours.guest.vcpu.enter(), -EBUSY);
				theirs.guest.run_to_halt();
			}
			CHECK_EQ(enter_soon(ours.guest), 0);
		}
		// Nothing of the guest was lost over the turns.
		CHECK_EQ(ours.guest.vcpu.regs().rbx, 6u);
	}
}

TEST(exclusive_0_holds_vt_x_while_a_vcpu_runs)
{
	load_both(any_order, "exclusive=0");
	{
		GuestOn ours{device, spin};
		{
			Running running{ours.guest};
			wait_for(ours.guest.value<u8>(at::data));
			for (int i = 0; i < 5; ++i)
				CHECK_EQ(create_vm(peer), -EBUSY);
			CHECK_EQ(running.finish(), -EINTR);
		}
		CHECK_EQ(create_vm(peer), 0);
	}
}

TEST(exclusive_0_gives_vt_x_away_while_a_guest_sleeps)
{
	load_both(any_order, "exclusive=0");
	{
		GuestOn ours{device, sleep_for_ever, Guest::with_irqchip};
		{
			Running running{ours.guest};
			wait_for(ours.guest.value<u8>(at::data));
			usleep(20'000);
			GuestOn theirs{peer, halts};
			theirs.guest.run_to_halt();
			int answer = running.finish();
			CHECK(answer == -EINTR || answer == -EBUSY);
		}
	}
}

TEST(exclusive_0_a_sleeping_guest_wakes_up)
{
	load_both(any_order, "exclusive=0");
	{
		GuestOn ours{device, sleep_once, Guest::with_irqchip};
		ours.guest.set_handler(0x45, xapic_handler);
		auto wake = [](void *what) {
			auto *guest = static_cast<Guest *>(what);
			wait_for(guest->value<u8>(at::data));
			usleep(20'000);
			kvm_msi msi{};
			msi.address_lo = 0xfee00000;
			msi.data = 0x45;
			CHECK_EQ(guest->vm.call(KVM_SIGNAL_MSI, &msi), 1);
		};
		Thread waker{wake, &ours.guest};
		ours.guest.run_to_out(report_port);
		CHECK_EQ(ours.guest.vcpu.regs().rbx, 1u);
	}
}

TEST(exclusive_0_vms_are_made_whoever_has_vt_x)
{
	load_both(any_order, "exclusive=0");
	{
		GuestOn theirs{peer, halts};
		theirs.guest.run_to_halt();
		System system;
		Vm vm{system};
		Vcpu vcpu{system, vm};
		CHECK_EQ(vcpu.enter(), -EBUSY);
		theirs.guest.run_to_halt();
	}
}

TEST(exclusive_0_both_at_once_on_all_cpus)
{
	load_both(any_order, "exclusive=0");
	{
		// Ours come and go on every CPU; they may be refused, and must come through in the end.
		GuestOn first{device, halts}, second{device, halts};
		Running one{first.guest}, two{second.guest};
		int had = 0;
		for (int i = 0; i < 30; ++i) {
			int answer = create_vm(peer);
			CHECK(answer == 0 || answer == -EBUSY);
			had += !answer;
		}
		note("%d of 30 times", had);
		one.finish();
		two.finish();
		for (Guest *guest : {&first.guest, &second.guest}) {
			CHECK_EQ(enter_soon(*guest), 0);
			CHECK(guest->vcpu.regs().rbx > 1);
		}
	}
}

TEST(and_back_to_the_usual)
{
	need_modules();
	if (!is_kvmpp())
		skip_test("for kvmpp");
	unload_soon("kvm_intel");
	unload_soon("kvm");
	CHECK_EQ(unload_soon("kvmpp"), 0);
	load_all();
}
