// SPDX-License-Identifier: GPL-2.0-only
// Interrupts that a guest takes from the controllers in the kernel: PIC, IOAPIC, local APIC.
#include <cerrno>
#include <csignal>
#include <pthread.h>
#include <unistd.h>
#include "interrupts.h"

using namespace kvmpp::selftests;

namespace
{

void set_line(const Vm &vm, u32 gsi, u32 level)
{
	kvm_irq_level line{{gsi}, level};
	REQUIRE_EQ(vm.call(KVM_IRQ_LINE, &line), 0);
}

void pulse(const Vm &vm, u32 gsi)
{
	set_line(vm, gsi, 1);
	set_line(vm, gsi, 0);
}

#define PIC_START                           \
	"mov $0x11, %al\n out %al, $0x20\n" \
	"mov $0x20, %al\n out %al, $0x21\n" \
	"mov $0x04, %al\n out %al, $0x21\n" \
	"mov $0x01, %al\n out %al, $0x21\n" \
	"mov $0x00, %al\n out %al, $0x21\n"

// Entry 20 of the IOAPIC, a line that is not the PIC's too: that low half, for the APIC with id 0.
#define IOAPIC_ENTRY_20(low)                         \
	"mov $0xfec00000, %edi\n"                    \
	"movl $0x39, (%rdi)\n movl $0, 0x10(%rdi)\n" \
	"movl $0x38, (%rdi)\n movl $" #low ", 0x10(%rdi)\n"

GUEST_CODE(pic_guest, 64,
	PIC_START REPORT WAIT_FOR_INTERRUPTS(1) REPORT WAIT_FOR_INTERRUPTS(2) REPORT);
GUEST_CODE(edge_guest, 64,
	APIC_ENABLE IOAPIC_ENTRY_20(0x45) REPORT WAIT_FOR_INTERRUPTS(1)
		REPORT WAIT_FOR_INTERRUPTS(2) REPORT);
GUEST_CODE(level_guest, 64,
	APIC_ENABLE IOAPIC_ENTRY_20(0x8045) REPORT WAIT_FOR_INTERRUPTS(3) REPORT
	"sti\n nop\n nop\n" REPORT);
GUEST_CODE(masked_guest, 64,
	APIC_ENABLE IOAPIC_ENTRY_20(0x10045) REPORT
	"sti\n nop\n nop\n cli\n" REPORT IOAPIC_ENTRY_20(0x45) "sti\n nop\n nop\n cli\n" REPORT);
// Asks userspace in between: the line may fall before the interrupt is acknowledged.
GUEST_CODE(level_handler, 64, COUNTING_HANDLER("out %al, $0x98\n" APIC_WRITE(0b0, 0)));

GUEST_CODE(self_ipi_guest, 64,
	APIC_ENABLE APIC_WRITE(310, 0) APIC_WRITE(300, 0x40045) WAIT_FOR_INTERRUPTS(1) REPORT);
GUEST_CODE(x2apic_self_ipi_guest, 64,
	X2APIC_ENABLE MSR_WRITE(0x83f, 0x45, 0) WAIT_FOR_INTERRUPTS(1) MSR_WRITE(0x830, 0x40045, 0)
		WAIT_FOR_INTERRUPTS(2) REPORT);

// Requests 0x35 and 0x75 while interrupts are off: the higher one comes first.
GUEST_CODE(priority_guest, 64,
	APIC_ENABLE APIC_WRITE(310, 0) APIC_WRITE(300, 0x40035) APIC_WRITE(300, 0x40075)
		WAIT_FOR_INTERRUPTS(2) REPORT);
GUEST_CODE(low_handler, 64, COUNTING_HANDLER("mov %rbx, 0x10000\n" APIC_WRITE(0b0, 0)));
GUEST_CODE(high_handler, 64, COUNTING_HANDLER("mov %rbx, 0x10008\n" APIC_WRITE(0b0, 0)));

// The task priority holds 0x45 off until it is lowered.
GUEST_CODE(task_priority_guest, 64,
	APIC_ENABLE "mov $5, %eax\n mov %rax, %cr8\n" APIC_WRITE(310, 0) APIC_WRITE(
		300, 0x40045) "sti\n nop\n nop\n cli\n mov %rbx, %rsi\n"
			      "xor %eax, %eax\n mov %rax, %cr8\n" WAIT_FOR_INTERRUPTS(1) REPORT);

// Writes registers of a local APIC, by some instructions that change them, then reads them all: to 0x10000.
GUEST_CODE(registers_by_memory, 64,
	APIC_ENABLE APIC_WRITE(080, 0x20) APIC_WRITE(0d0, 0x12345678) APIC_WRITE(0e0, 0) APIC_WRITE(310, 0x3abcdef0)
		APIC_WRITE(320, 0x1f0ff) APIC_WRITE(360, 0x10400) APIC_WRITE(3e0, 0xb) APIC_WRITE(380, 0x7fffffff) R"(
	mov $0xfee00000, %esi
	addl $0x15, 0x80(%rsi)
	orl $0x200, 0xf0(%rsi)
	mov $0x10055, %eax
	xchg %eax, 0x370(%rsi)
	mov $0x10000, %edi
	mov $64, %ecx
1:	mov (%rsi), %eax
	mov %eax, (%rdi)
	add $16, %rsi
	add $16, %rdi
	dec %ecx
	jnz 1b
	mov $0xfee00350, %esi
	mov $0x11000, %edi
	movsl
	pushq 0x11000
	pop %rax
)" REPORT);

// Reads all 256 registers that an IOAPIC's selector can name.
GUEST_CODE(ioapic_sweep, 64, R"(
	mov $0xfec00000, %edi
	xor %ecx, %ecx
1:	mov %ecx, (%rdi)
	mov 0x10(%rdi), %eax
	mov 0x10(%rdi), %al
	mov 0x10(%rdi), %rax
	mov %ecx, 0x10(%rdi)
	inc %ecx
	cmp $256, %ecx
	jb 1b
)" REPORT);

GUEST_CODE(report_only, 64, REPORT);
GUEST_CODE(halting_guest, 64, "sti\n nop\n hlt\n" REPORT);

struct Machine : Guest {
	explicit Machine(const Code &code) : Guest(Mode::long_mode, code, with_irqchip) {}

	void run_to_report() const { run_to_out(report_port); }
	u64 taken() const { return vcpu.regs().rbx; }
};

} // namespace

TEST(pic_interrupts_arrive)
{
	Machine guest{pic_guest};
	guest.set_handler(0x24, pic_handler);
	guest.run_to_report();
	pulse(guest.vm, 4);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 1u);
	pulse(guest.vm, 4);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 2u);
}

TEST(ioapic_edges_arrive)
{
	Machine guest{edge_guest};
	guest.set_handler(0x45, xapic_handler);
	guest.run_to_report();
	set_line(guest.vm, 20, 1);
	guest.run_to_report();
	// The line is still high: only another edge is another interrupt.
	pulse(guest.vm, 20);
	set_line(guest.vm, 20, 1);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 2u);
}

TEST(ioapic_levels_repeat_until_the_line_falls)
{
	Machine guest{level_guest};
	guest.set_handler(0x45, level_handler);
	guest.run_to_report();
	set_line(guest.vm, 20, 1);
	guest.run_to_out(0x98);
	guest.run_to_out(0x98);
	guest.run_to_out(0x98);
	set_line(guest.vm, 20, 0);
	guest.run_to_report();
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 3u);
}

TEST(a_masked_ioapic_entry_is_silent)
{
	Machine guest{masked_guest};
	guest.set_handler(0x45, xapic_handler);
	guest.run_to_report();
	set_line(guest.vm, 20, 1);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 0u);
}

TEST(an_interrupt_wakes_a_halted_guest)
{
	Machine guest{edge_guest};
	guest.set_handler(0x45, xapic_handler);
	guest.run_to_report();
	auto raise_soon = [](void *vm) {
		usleep(30'000);
		pulse(*static_cast<Vm *>(vm), 20);
	};
	Thread other{raise_soon, &guest.vm};
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 1u);
}

TEST(a_signal_wakes_a_halted_guest)
{
	Machine guest{halting_guest};
	ignore_interruptions();
	struct Target {
		pthread_t thread;
	} target{pthread_self()};
	auto interrupt_soon = [](void *who) {
		usleep(30'000);
		pthread_kill(static_cast<Target *>(who)->thread, SIGUSR1);
	};
	Thread other{interrupt_soon, &target};
	CHECK_EQ(guest.vcpu.enter(), -EINTR);
}

TEST(an_apic_interrupts_itself)
{
	Machine guest{self_ipi_guest};
	guest.set_handler(0x45, xapic_handler);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 1u);
}

TEST(an_x2apic_interrupts_itself)
{
	Machine guest{x2apic_self_ipi_guest};
	guest.set_handler(0x45, x2apic_handler);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 2u);
}

TEST(higher_vectors_come_first)
{
	Machine guest{priority_guest};
	guest.set_handler(0x35, low_handler);
	guest.set_handler(0x75, high_handler);
	guest.run_to_report();
	CHECK_EQ(guest.value<u64>(at::data + 8), 1u);
	CHECK_EQ(guest.value<u64>(at::data), 2u);
}

TEST(task_priority_holds_interrupts_off)
{
	Machine guest{task_priority_guest};
	guest.set_handler(0x45, xapic_handler);
	guest.run_to_report();
	CHECK_EQ(guest.vcpu.regs().rsi, 0u);
	CHECK_EQ(guest.taken(), 1u);
}

TEST(a_guest_reads_what_its_vmm_sees)
{
	Machine guest{registers_by_memory};
	guest.run_to_report();
	kvm_lapic_state lapic{};
	REQUIRE_EQ(guest.vcpu.call(KVM_GET_LAPIC, &lapic), 0);
	const auto theirs = [&](unsigned offset) { return guest.value<u32>(at::data + offset); };
	const auto ours = [&](unsigned offset) {
		u32 value;
		memcpy(&value, lapic.regs + offset, sizeof value);
		return value;
	};
	for (unsigned offset = 0x20; offset <= 0x3e0; offset += 0x10) {
		// Those that move, and those that there are not.
		const bool missing = (offset >= 0x40 && offset < 0x80) || (offset >= 0x290 && offset < 0x300) ||
				     (offset >= 0x3a0 && offset < 0x3e0) || offset == 0xb0 || offset == 0xc0;
		if (!missing && offset != 0x390 && !CHECK_EQ(theirs(offset), ours(offset)))
			note("register %#x", offset);
	}
	CHECK_EQ(theirs(0x80), 0x35u);
	CHECK_EQ(theirs(0xa0), 0x35u);
	CHECK_EQ(theirs(0xf0), 0x3ffu);
	CHECK_EQ(theirs(0x310), 0x3a000000u);
	CHECK_EQ(theirs(0x370), 0x10055u);
	CHECK(theirs(0x390) > 0 && theirs(0x390) < 0x7fffffff);
	CHECK_EQ(guest.value<u32>(0x11000), theirs(0x350));
}

TEST(an_nmi_wakes_a_halted_guest)
{
	Machine guest{report_only};
	NEED(guest.system, KVM_CAP_USER_NMI);
	guest.set_handler(2, xapic_handler);
	kvm_mp_state halted{KVM_MP_STATE_HALTED};
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_MP_STATE, &halted), 0);
	CHECK_EQ(guest.vcpu.call(KVM_NMI), 0);
	guest.run_to_report();
	CHECK_EQ(guest.taken(), 1u);
}

TEST(CVE_2013_1798_ioapic_registers_that_are_not)
{
	Machine guest{ioapic_sweep};
	guest.run_to_report();
}
