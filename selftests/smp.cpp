// SPDX-License-Identifier: GPL-2.0-only
// Two vCPUs: INIT and start-up, interrupts between them, state that is each one's own.
#include <atomic>
#include <cerrno>
#include <unistd.h>
#include "interrupts.h"

using namespace kvmpp::selftests;

namespace
{

constexpr u64 second_code = 0x2000, second_stack = 0x7c00, start_up_code = 0xe000;
constexpr u16 second_report_port = 0x98;

// What the second vCPU does in real mode after a start-up interrupt for page 14.
GUEST_CODE(started_up, 16, R"(
	mov $0x1000, %ax
	mov %ax, %ds
	mov %cs, %bx
	mov %bx, 2
	movb $1, 0
	out %al, $0x98
	cli
	hlt
)");

// A spinning vCPU is interruptible, for the sake of an emulated host.
#define WAIT_FOR_BYTE(address)    \
	"sti\n"                   \
	"6: pause\n"              \
	"cmpb $0, " #address "\n" \
	"je 6b\n"                 \
	"cli\n"

#define SEND(command)               \
	APIC_WRITE(310, 0x01000000) \
	APIC_WRITE(300, command)
#define X2APIC_SEND(command) MSR_WRITE(0x830, command, 1)

GUEST_CODE(
	start_the_other, 64, APIC_ENABLE SEND(0x4500) SEND(0x460e) WAIT_FOR_BYTE(0x10000) REPORT);
GUEST_CODE(start_the_other_by_x2apic, 64,
	X2APIC_ENABLE X2APIC_SEND(0x4500) X2APIC_SEND(0x460e) WAIT_FOR_BYTE(0x10000) REPORT);

GUEST_CODE(wait_in_halt, 64,
	APIC_ENABLE
	"movb $1, 0x10008\n" WAIT_FOR_INTERRUPTS(1) "movb $1, 0x10000\n out %al, $0x98\n");
GUEST_CODE(wait_in_halt_x2apic, 64,
	X2APIC_ENABLE
	"movb $1, 0x10008\n" WAIT_FOR_INTERRUPTS(1) "movb $1, 0x10000\n out %al, $0x98\n");
GUEST_CODE(wait_spinning, 64,
	APIC_ENABLE "movb $1, 0x10008\n sti\n 1: pause\n cmp $1, %rbx\n jb 1b\n"
		    "movb $1, 0x10000\n out %al, $0x98\n");
GUEST_CODE(interrupt_the_other, 64,
	APIC_ENABLE WAIT_FOR_BYTE(0x10008) SEND(0x4045) WAIT_FOR_BYTE(0x10000) REPORT);
GUEST_CODE(interrupt_the_other_x2apic, 64,
	X2APIC_ENABLE WAIT_FOR_BYTE(0x10008) X2APIC_SEND(0x4045) WAIT_FOR_BYTE(0x10000) REPORT);
GUEST_CODE(nmi_to_the_other, 64,
	APIC_ENABLE WAIT_FOR_BYTE(0x10008) SEND(0x4400) WAIT_FOR_BYTE(0x10000) REPORT);
// All but itself.
GUEST_CODE(interrupt_the_others, 64,
	APIC_ENABLE WAIT_FOR_BYTE(0x10008) APIC_WRITE(300, 0xc4045) WAIT_FOR_BYTE(0x10000) REPORT);
GUEST_CODE(nmi_handler, 64, COUNTING_HANDLER(""));

// INIT to one that runs: it stops there, and starts anew.
GUEST_CODE(spin_forever, 64, APIC_ENABLE "movb $1, 0x10008\n sti\n 1: pause\n jmp 1b\n");
GUEST_CODE(restart_the_other, 64,
	APIC_ENABLE WAIT_FOR_BYTE(0x10008) SEND(0x4500) SEND(0x460e) WAIT_FOR_BYTE(0x10000) REPORT);

struct Pair : Guest {
	explicit Pair(const Code &first) : Guest(Mode::long_mode, first, with_irqchip)
	{
		REQUIRE_EQ(second.set(supported_cpuid()), 0);
		ignore_interruptions();
	}

	void start_second(const Code &code)
	{
		load(second_code, code);
		set_up(second, Mode::long_mode, second_code, second_stack);
		kvm_mp_state runnable{KVM_MP_STATE_RUNNABLE};
		REQUIRE_EQ(second.call(KVM_SET_MP_STATE, &runnable), 0);
	}

	// Both at once, until each has reported.
	void run_both()
	{
		auto run_second = [](void *pair) {
			const Vcpu &cpu = static_cast<Pair *>(pair)->second;
			int answer;
			// A vCPU that waits for its start-up lets KVM_RUN come back without having
			// run.
			do
				answer = cpu.enter();
			while (answer == -EAGAIN || answer == -EINTR);
			CHECK_EQ(answer, 0);
			CHECK_EQ(cpu->exit_reason, static_cast<u32>(KVM_EXIT_IO));
			CHECK_EQ(cpu->io.port, second_report_port);
		};
		Thread thread{run_second, this};
		run_to_out(report_port);
	}

	Vcpu second{system, vm, 1};
};

} // namespace

TEST(init_and_start_up)
{
	Pair pair{start_the_other};
	pair.load(start_up_code, started_up);
	pair.run_both();
	CHECK_EQ(pair.value<u16>(at::data + 2), 0xe00);
	kvm_sregs sregs = pair.second.sregs();
	CHECK_EQ(sregs.cs.selector, 0xe00);
	CHECK_EQ(sregs.cs.base, start_up_code);
}

TEST(init_and_start_up_by_x2apic)
{
	Pair pair{start_the_other_by_x2apic};
	pair.load(start_up_code, started_up);
	pair.run_both();
}

TEST(init_restarts_a_running_vcpu)
{
	Pair pair{restart_the_other};
	pair.start_second(spin_forever);
	pair.load(start_up_code, started_up);
	pair.run_both();
}

TEST(an_interrupt_wakes_the_other)
{
	Pair pair{interrupt_the_other};
	pair.set_handler(0x45, xapic_handler);
	pair.start_second(wait_in_halt);
	pair.run_both();
	CHECK_EQ(pair.second.regs().rbx, 1u);
}

TEST(an_interrupt_wakes_the_other_by_x2apic)
{
	Pair pair{interrupt_the_other_x2apic};
	pair.set_handler(0x45, x2apic_handler);
	pair.start_second(wait_in_halt_x2apic);
	pair.run_both();
	CHECK_EQ(pair.second.regs().rbx, 1u);
}

TEST(an_interrupt_reaches_a_running_vcpu)
{
	Pair pair{interrupt_the_other};
	pair.set_handler(0x45, xapic_handler);
	pair.start_second(wait_spinning);
	pair.run_both();
}

TEST(an_interrupt_for_all_others)
{
	Pair pair{interrupt_the_others};
	pair.set_handler(0x45, xapic_handler);
	pair.start_second(wait_in_halt);
	pair.run_both();
	CHECK_EQ(pair.vcpu.regs().rbx, 0u);
}

TEST(an_nmi_to_the_other)
{
	Pair pair{nmi_to_the_other};
	pair.set_handler(2, nmi_handler);
	pair.start_second(wait_in_halt);
	pair.run_both();
}

TEST(a_vcpu_that_waits_for_start_up_is_interruptible)
{
	Pair pair{start_the_other};
	auto run_second = [](void *what) {
		int answer = static_cast<Pair *>(what)->second.enter();
		CHECK(answer == -EINTR || answer == -EAGAIN);
	};
	Thread thread{run_second, &pair};
	usleep(20'000);
	thread.interrupt();
}

TEST(one_vcpu_runs_in_one_thread_at_a_time)
{
	struct Both : Pair {
		using Pair::Pair;
		std::atomic<int> ended = 0;
	} pair{interrupt_the_other};
	pair.start_second(spin_forever);
	auto run_second = [](void *what) {
		auto *both = static_cast<Both *>(what);
		CHECK_EQ(both->second.enter(), -EINTR);
		++both->ended;
	};
	Thread one{run_second, &pair}, other{run_second, &pair};
	while (!__atomic_load_n(&pair.value<u8>(at::data + 8), __ATOMIC_ACQUIRE))
		usleep(1000);
	// The one that waits for its turn ends too, once it has it.
	while (pair.ended < 2) {
		one.interrupt();
		other.interrupt();
		usleep(5000);
	}
}
