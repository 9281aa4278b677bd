// SPDX-License-Identifier: GPL-2.0-only
// CPUs that go and come, and a machine that sleeps, with virtual machines on them.
#include <cstdlib>
#include "files.h"
#include "interrupts.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(spin, 64, "sti\n 1: incl 0x10000\n pause\n jmp 1b");
GUEST_CODE(halts, 64, "1: inc %ebx\n hlt\n jmp 1b");
// A periodic timer, and sleep in between; the handler counts in memory.
GUEST_CODE(sleeper, 64, APIC_ENABLE
	APIC_WRITE(3e0, 0xb) APIC_WRITE(320, 0x20045) APIC_WRITE(380, 0x10000)
	"1: sti\n hlt\n jmp 1b\n");
GUEST_CODE(count_tick, 64, "push %rdi\n incl 0x10000\n" APIC_WRITE(0b0, 0) "pop %rdi\n iretq\n");
// Reads the TSC time and again and says so when it goes back.
GUEST_CODE(watch_tsc, 64, R"(
	sti
	rdtsc
	shl $32, %rdx
	lea (%rdx,%rax), %rbx
1:	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	cmp %rbx, %rax
	jae 2f
	incl 0x10008
2:	mov %rax, %rbx
	mov %rax, 0x10010
	incl 0x10000
	pause
	jmp 1b
)");

#define CPU1 "/sys/devices/system/cpu/cpu1/online"

int set_online(bool on)
{
	return write_text(CPU1, on ? "1" : "0");
}

// The second CPU is there now, and can go.
void need_second_cpu()
{
	if (geteuid() != 0 || access(CPU1, W_OK) < 0)
		skip_test("no CPU that can go offline here");
	set_online(true);
	cpu_set_t all;
	CPU_ZERO(&all);
	CPU_SET(0, &all);
	CPU_SET(1, &all);
	REQUIRE_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

u32 &counter(Guest &guest)
{
	return guest.value<u32>(at::data);
}

void run_on(unsigned cpu, Guest &guest)
{
	stay_on(cpu);
	guest.run_to_halt();
}

// To RAM, with an alarm clock set; the other way, s2idle, leaves the processors as they are. 0, or a
// negative errno.
int sleep_deeply()
{
	write_text("/sys/class/rtc/rtc0/wakealarm", "0");
	write_text("/sys/class/rtc/rtc0/wakealarm", "+3");
	REQUIRE_EQ(write_text("/sys/power/mem_sleep", "deep"), 0);
	return write_text("/sys/power/state", "mem");
}

} // namespace

TEST(a_cpu_goes_and_comes_while_guests_run)
{
	need_second_cpu();
	Guest first{Mode::long_mode, spin}, second{Mode::long_mode, spin};
	Guest ticking{Mode::long_mode, sleeper, Guest::with_irqchip};
	ticking.set_handler(0x45, count_tick);
	Running one{first}, two{second}, three{ticking};
	for (int i = 0; i < 4; ++i) {
		REQUIRE_EQ(set_online(i % 2 != 0), 0);
		for (Guest *guest : {&first, &second, &ticking})
			CHECK(advances(counter(*guest)));
	}
	for (Running *running : {&one, &two, &three})
		CHECK_EQ(running->finish(), -EINTR);
}

TEST(a_cpu_takes_a_vcpu_s_state_with_it_nowhere)
{
	need_second_cpu();
	Guest guest{Mode::long_mode, halts};
	u32 runs = 0;
	for (int i = 0; i < 3; ++i) {
		// Its VMCS stays on that CPU.
		run_on(1, guest);
		stay_on(0);
		REQUIRE_EQ(set_online(false), 0);
		kvm_regs regs = guest.vcpu.regs();
		CHECK_EQ(regs.rbx, ++runs);
		run_on(0, guest);
		CHECK_EQ(guest.vcpu.regs().rbx, ++runs);
		REQUIRE_EQ(set_online(true), 0);
	}
	run_on(1, guest);
	CHECK_EQ(guest.vcpu.regs().rbx, ++runs);
}

TEST(a_cpu_that_comes_up_runs_vms_made_without_it)
{
	need_second_cpu();
	stay_on(0);
	REQUIRE_EQ(set_online(false), 0);
	Guest guest{Mode::long_mode, halts};
	run_on(0, guest);
	REQUIRE_EQ(set_online(true), 0);
	run_on(1, guest);
	CHECK_EQ(guest.vcpu.regs().rbx, 2u);
}

TEST(a_vm_ends_while_a_cpu_that_it_used_is_gone)
{
	need_second_cpu();
	for (int i = 0; i < 3; ++i) {
		Guest guest{Mode::long_mode, halts};
		run_on(1, guest);
		stay_on(0);
		REQUIRE_EQ(set_online(false), 0);
		guest.vcpu.close();
		guest.vm.close();
		REQUIRE_EQ(set_online(true), 0);
		Guest next{Mode::long_mode, halts};
		run_on(1, next);
	}
}

TEST(vms_come_and_go_while_a_cpu_does)
{
	need_second_cpu();
	struct {
		std::atomic<bool> stop = false;
	} state;
	auto make_vms = [](void *what) {
		while (!static_cast<decltype(state) *>(what)->stop) {
			Guest guest{Mode::long_mode, halts};
			guest.run_to_halt();
		}
	};
	Thread thread{make_vms, &state};
	for (int i = 0; i < 6; ++i)
		CHECK_EQ(set_online(i % 2 != 0), 0);
	state.stop = true;
	thread.join();
}

TEST(the_machine_sleeps_while_guests_run)
{
	char ways[100];
	if (!getenv("MAY_SLEEP") || geteuid() != 0)
		skip_test("MAY_SLEEP is not set");
	read_text("/sys/power/mem_sleep", ways, sizeof ways);
	if (!strstr(ways, "deep"))
		skip_test("this machine has no S3");
	Guest busy{Mode::long_mode, spin}, idle{Mode::long_mode, halts},
		clock{Mode::long_mode, watch_tsc};
	Guest ticking{Mode::long_mode, sleeper, Guest::with_irqchip};
	ticking.set_handler(0x45, count_tick);
	idle.run_to_halt();
	Running one{busy}, two{clock}, three{ticking};
	for (int i = 0; i < 2; ++i) {
		for (Guest *guest : {&busy, &clock, &ticking})
			CHECK(advances(counter(*guest)));
		u64 tsc = clock.value<u64>(at::data + 16);
		CHECK_EQ(sleep_deeply(), 0);
		for (Guest *guest : {&busy, &clock, &ticking})
			CHECK(advances(counter(*guest)));
		CHECK(clock.value<u64>(at::data + 16) > tsc);
		// It never went back, as the processor's own did.
		CHECK_EQ(clock.value<u32>(at::data + 8), 0u);
		idle.run_to_halt();
	}
	for (Running *running : {&one, &two, &three})
		CHECK_EQ(running->finish(), -EINTR);
	CHECK_EQ(idle.vcpu.regs().rbx, 3u);
	Guest fresh{Mode::long_mode, halts};
	fresh.run_to_halt();
}
