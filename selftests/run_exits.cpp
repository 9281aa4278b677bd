// SPDX-License-Identifier: GPL-2.0-only
// KVM_RUN: why it comes back. Halts, shutdowns, errors, signals, immediate_exit, and the windows in
// which a VM without irqchip takes interrupts.
#include <cerrno>
#include <csignal>
#include <sys/time.h>
#include <unistd.h>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halt16, 16, "hlt; hlt");
GUEST_CODE(halt32, 32, "hlt; hlt");
GUEST_CODE(halt64, 64, "hlt; hlt");

// Interruptible: an emulated host does not get to interrupt a guest that is not.
GUEST_CODE(spin, 64, R"(
	sti
1:	jmp 1b
)");

GUEST_CODE(sti_then_halt, 64, R"(
	nop
	sti
	nop
	hlt
)");

// Loads an empty interrupt table and needs it.
GUEST_CODE(triple_fault, 64, R"(
	pushq $0
	pushq $0
	lidt (%rsp)
	ud2
)");

GUEST_CODE(jump_to_nowhere, 64, R"(
	mov $0x80000000, %eax
	jmp *%rax
)");

GUEST_CODE(two_outs, 64, R"(
	mov $1, %al
	out %al, $0x42
	mov $2, %al
	out %al, $0x42
	in $0x43, %al
	hlt
)");

// Counts interrupts in RBX.
GUEST_CODE(count_interrupt, 64, R"(
	inc %rbx
	iretq
)");

GUEST_CODE(swap_priority, 64, R"(
	mov %cr8, %rbx
	mov $9, %eax
	mov %rax, %cr8
	hlt
)");

} // namespace

TEST(run_takes_no_argument)
{
	Guest guest{Mode::long_mode, halt64};
	CHECK_EQ(guest.vcpu.call(KVM_RUN, 1), -EINVAL);
	guest.run_to_halt();
}

TEST(halt_without_irqchip_exits_in_every_mode)
{
	for (auto &[mode, code] : {std::pair{Mode::real, halt16}, {Mode::protected_mode, halt32},
		     {Mode::long_mode, halt64}}) {
		Guest guest{mode, code};
		guest.run_to_halt();
		CHECK_EQ(guest.vcpu.regs().rip, at::code + 1);
		guest.run_to_halt();
		CHECK_EQ(guest.vcpu.regs().rip, at::code + 2);
	}
}

TEST(triple_fault_is_a_shutdown)
{
	Guest guest{Mode::long_mode, triple_fault};
	CHECK_EXIT(guest, KVM_EXIT_SHUTDOWN);
}

TEST(running_where_there_is_no_memory_is_an_internal_error)
{
	Guest guest{Mode::long_mode, jump_to_nowhere};
	CHECK_EXIT(guest, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(guest.vcpu->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
}

TEST(a_vm_without_memory_does_not_run)
{
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};
	int answer = vcpu.enter();
	CHECK(answer < 0 || vcpu->exit_reason == KVM_EXIT_INTERNAL_ERROR);
}

TEST(immediate_exit_comes_back_at_once)
{
	Guest guest{Mode::long_mode, halt64};
	NEED(guest.system, KVM_CAP_IMMEDIATE_EXIT);
	guest.vcpu->immediate_exit = 1;
	CHECK_EQ(guest.vcpu.enter(), -EINTR);
	CHECK_EQ(guest.vcpu.regs().rip, at::code);
	guest.vcpu->immediate_exit = 0;
	guest.run_to_halt();
}

TEST(immediate_exit_completes_what_userspace_has_done)
{
	Guest guest{Mode::long_mode, two_outs};
	NEED(guest.system, KVM_CAP_IMMEDIATE_EXIT);
	CHECK_EQ(guest.run_to_out(0x42), 1u);
	CHECK_EQ(guest.run_to_out(0x42), 2u);
	CHECK_EXIT(guest, KVM_EXIT_IO);
	*guest.vcpu.io_data() = 0x77;
	guest.vcpu->immediate_exit = 1;
	CHECK_EQ(guest.vcpu.enter(), -EINTR);
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rax & 0xff, 0x77u);
	CHECK_EQ(regs.rip, at::code + two_outs.size() - 1);
	// The exit that was completed can still be looked at.
	CHECK_EQ(guest.vcpu->exit_reason, static_cast<u32>(KVM_EXIT_IO));
	guest.vcpu->immediate_exit = 0;
	guest.run_to_halt();
}

TEST(a_signal_ends_a_run)
{
	Guest guest{Mode::long_mode, spin};
	ignore_interruptions();
	signal(SIGALRM, [](int) {});
	itimerval soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 50'000}};
	setitimer(ITIMER_REAL, &soon, nullptr);
	CHECK_EQ(guest.vcpu.enter(), -EINTR);
	CHECK_EQ(guest.vcpu->exit_reason, KVM_EXIT_INTR);
}

TEST(a_pending_signal_keeps_a_guest_from_running)
{
	Guest guest{Mode::long_mode, halt64};
	ignore_interruptions();
	sigset_t set, before;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &before);
	raise(SIGUSR1);

	// Blocked for the thread, let in for the run.
	struct {
		u32 length = 8;
		u8 bits[8]{};
	} mask;
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_SIGNAL_MASK, &mask), 0);
	CHECK_EQ(guest.vcpu.enter(), -EINTR);
	CHECK_EQ(guest.vcpu.regs().rip, at::code);
	sigset_t pending;
	sigpending(&pending);
	CHECK_EQ(sigismember(&pending, SIGUSR1), 1);

	// Blocked in both.
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_SIGNAL_MASK, 0ul), 0);
	guest.run_to_halt();
}

TEST(the_run_page_tells_the_interrupt_flag)
{
	Guest guest{Mode::long_mode, sti_then_halt};
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu->if_flag, 1);
	CHECK_EQ(guest.vcpu->ready_for_interrupt_injection, 1);
	CHECK_EQ(guest.vcpu->apic_base, guest.vcpu.sregs().apic_base);
}

TEST(an_interrupt_window_opens_with_the_flag)
{
	Guest guest{Mode::long_mode, sti_then_halt};
	guest.vcpu->request_interrupt_window = 1;
	CHECK_EXIT(guest, KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(guest.vcpu->ready_for_interrupt_injection, 1);
	// STI holds interrupts off for one instruction (SDM vol. 2, STI).
	CHECK_EQ(guest.vcpu.regs().rip, at::code + 3);
	guest.vcpu->request_interrupt_window = 0;
	guest.run_to_halt();
}

TEST(an_injected_interrupt_reaches_its_handler)
{
	Guest guest{Mode::long_mode, sti_then_halt};
	guest.set_handler(0x55, count_interrupt);
	guest.vcpu->request_interrupt_window = 1;
	CHECK_EXIT(guest, KVM_EXIT_IRQ_WINDOW_OPEN);
	kvm_interrupt interrupt{.irq = 0x55};
	CHECK_EQ(guest.vcpu.call(KVM_INTERRUPT, &interrupt), 0);
	guest.vcpu->request_interrupt_window = 0;
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
	CHECK_EQ(guest.vcpu.regs().rip, at::code + sti_then_halt.size());
}

TEST(interrupts_have_256_vectors)
{
	Guest guest{Mode::long_mode, halt64};
	for (u32 vector : {256u, 0x1000u, ~0u}) {
		kvm_interrupt interrupt{.irq = vector};
		CHECK_EQ(guest.vcpu.call(KVM_INTERRUPT, &interrupt), -EINVAL);
	}
}

TEST(interrupts_with_an_irqchip_do_not_come_from_userspace)
{
	Guest guest{Mode::long_mode, halt64, Guest::with_irqchip};
	kvm_interrupt interrupt{.irq = 0x55};
	CHECK_EQ(guest.vcpu.call(KVM_INTERRUPT, &interrupt), -ENXIO);
}

TEST(an_nmi_reaches_its_handler)
{
	Guest guest{Mode::long_mode, halt64};
	NEED(guest.system, KVM_CAP_USER_NMI);
	guest.set_handler(2, count_interrupt);
	CHECK_EQ(guest.vcpu.call(KVM_NMI), 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
}

TEST(an_event_that_is_set_is_delivered)
{
	Guest guest{Mode::long_mode, halt64};
	NEED(guest.system, KVM_CAP_VCPU_EVENTS);
	guest.set_handler(6, count_interrupt);
	kvm_vcpu_events events{};
	events.exception.injected = 1;
	events.exception.nr = 6;
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_VCPU_EVENTS, &events), 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
}

TEST(task_priority_goes_in_and_out_with_the_run)
{
	Guest guest{Mode::long_mode, swap_priority};
	guest.vcpu->cr8 = 4;
	// Without irqchip a raised priority is told to userspace; a lowered one is its business
	// too.
	u32 reason = guest.run();
	if (reason == KVM_EXIT_SET_TPR)
		reason = guest.run();
	CHECK_EQ(reason, static_cast<u32>(KVM_EXIT_HLT));
	CHECK_EQ(guest.vcpu.regs().rbx, 4u);
	CHECK_EQ(guest.vcpu->cr8, 9u);
}
