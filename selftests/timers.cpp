// SPDX-License-Identifier: GPL-2.0-only
// Timers that interrupt a guest: the local APIC's in its three modes and both its faces, the PIT.
#include <ctime>
#include "interrupts.h"

using namespace kvmpp::selftests;

namespace
{

u64 now()
{
	timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

struct Machine : Guest {
	explicit Machine(const Code &code) : Guest(Mode::long_mode, code, with_irqchip) {}

	void allow_tsc_deadline() const
	{
		CpuidTable table = supported_cpuid();
		table.find(1)->ecx |= 1u << 24;
		REQUIRE_EQ(vcpu.set(table), 0);
	}

	// Runs to the report; nanoseconds that it took.
	u64 time_to_report() const
	{
		u64 began = now();
		run_to_out(report_port);
		return now() - began;
	}
};

// KVM's APIC timer counts nanoseconds; divided by one, so many millions are as many milliseconds.
#define DIVIDE_BY_1 APIC_WRITE(3e0, 0xb)

GUEST_CODE(one_shot, 64,
	APIC_ENABLE DIVIDE_BY_1 APIC_WRITE(320, 0x40) APIC_WRITE(380, 5000000)
		WAIT_FOR_INTERRUPTS(1) REPORT);
GUEST_CODE(periodic, 64,
	APIC_ENABLE DIVIDE_BY_1 APIC_WRITE(320, 0x20040) APIC_WRITE(380, 2000000)
		WAIT_FOR_INTERRUPTS(5) REPORT);
GUEST_CODE(divided, 64,
	APIC_ENABLE APIC_WRITE(3e0, 0xa) APIC_WRITE(320, 0x40) APIC_WRITE(380, 50000)
		WAIT_FOR_INTERRUPTS(1) REPORT); // by 128
GUEST_CODE(x2apic_one_shot, 64,
	X2APIC_ENABLE MSR_WRITE(0x83e, 0xb, 0) MSR_WRITE(0x832, 0x40, 0)
		MSR_WRITE(0x838, 5000000, 0) WAIT_FOR_INTERRUPTS(1) REPORT);
GUEST_CODE(x2apic_periodic, 64,
	X2APIC_ENABLE MSR_WRITE(0x83e, 0xb, 0) MSR_WRITE(0x832, 0x20040, 0)
		MSR_WRITE(0x838, 2000000, 0) WAIT_FOR_INTERRUPTS(5) REPORT);

#define DEADLINE_IN(ticks) \
	"rdtsc\n add $" #ticks ", %eax\n adc $0, %edx\n mov $0x6e0, %ecx\n wrmsr\n"
GUEST_CODE(tsc_deadline, 64,
	APIC_ENABLE APIC_WRITE(320, 0x40040) DEADLINE_IN(200000) WAIT_FOR_INTERRUPTS(1)
		DEADLINE_IN(200000) WAIT_FOR_INTERRUPTS(2) REPORT);
GUEST_CODE(past_deadline, 64,
	APIC_ENABLE APIC_WRITE(320, 0x40040) "mov $0x6e0, %ecx\n mov $1, %eax\n xor %edx, %edx\n "
					     "wrmsr\n" WAIT_FOR_INTERRUPTS(1) REPORT);
GUEST_CODE(deadline_disarmed, 64,
	APIC_ENABLE APIC_WRITE(320, 0x40040) DEADLINE_IN(20000) MSR_WRITE(
		0x6e0, 0, 0) "sti\n mov $20000, %ecx\n 1: dec %ecx\n jnz 1b\n cli\n" REPORT);

GUEST_CODE(masked_timer, 64,
	APIC_ENABLE DIVIDE_BY_1 APIC_WRITE(320, 0x10040) APIC_WRITE(
		380, 1000) "sti\n mov $20000, %ecx\n 1: dec %ecx\n jnz 1b\n cli\n" REPORT);
GUEST_CODE(counting_down, 64,
	APIC_ENABLE DIVIDE_BY_1 APIC_WRITE(320, 0x10040) APIC_WRITE(380, 0xffffffff) R"(
	mov $0xfee00390, %edi
	mov (%rdi), %esi
	mov $1000, %ecx
1:	dec %ecx
	jnz 1b
	mov (%rdi), %edx
)" REPORT);

// Every divider with counts that may be divided by: 0, 1 and the most, one-shot and periodic. The
// interrupts stay pending: the guest never lets them in.
GUEST_CODE(odd_counts, 64, APIC_ENABLE R"(
	mov $0xfee00000, %edi
	xor %esi, %esi
1:	mov %esi, 0x3e0(%rdi)
	movl $0x40, 0x320(%rdi)
	movl $0, 0x380(%rdi)
	mov 0x390(%rdi), %eax
	movl $1, 0x380(%rdi)
	mov 0x390(%rdi), %eax
	movl $0x20040, 0x320(%rdi)
	movl $0, 0x380(%rdi)
	mov 0x390(%rdi), %eax
	movl $1, 0x380(%rdi)
	mov 0x390(%rdi), %eax
	movl $-1, 0x380(%rdi)
	mov 0x390(%rdi), %eax
	movl $0, 0x380(%rdi)
	inc %esi
	cmp $16, %esi
	jb 1b
)" REPORT);

#define PIC_START                                                             \
	"mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n" \
	"mov $0x04, %al\n out %al, $0x21\n mov $0x01, %al\n out %al, $0x21\n" \
	"mov $0xfe, %al\n out %al, $0x21\n"
// Channel 0, both bytes: 4,773 ticks of 1.193182 MHz are 4 ms.
#define PIT_START(mode)                                        \
	"mov $(0x30 | " #mode " << 1), %al\n out %al, $0x43\n" \
	"mov $0xa5, %al\n out %al, $0x40\n mov $0x12, %al\n out %al, $0x40\n"
GUEST_CODE(pit_rate, 64, PIC_START PIT_START(2) WAIT_FOR_INTERRUPTS(4) REPORT);
GUEST_CODE(pit_one_shot, 64, PIC_START PIT_START(0) WAIT_FOR_INTERRUPTS(1) REPORT);
GUEST_CODE(pit_counter, 64, PIT_START(2) R"(
	xor %eax, %eax
	out %al, $0x43
	in $0x40, %al
	mov %al, %bl
	in $0x40, %al
	mov %al, %bh
)" REPORT);

constexpr u64 millisecond = 1'000'000;

} // namespace

TEST(apic_one_shot)
{
	Machine guest{one_shot};
	guest.set_handler(0x40, xapic_handler);
	CHECK(guest.time_to_report() >= 5 * millisecond);
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
}

TEST(apic_periodic)
{
	Machine guest{periodic};
	guest.set_handler(0x40, xapic_handler);
	CHECK(guest.time_to_report() >= 10 * millisecond);
}

TEST(apic_periodic_for_a_guest_that_halts_by_itself)
{
	Machine guest{periodic};
	NEED(guest.system, KVM_CAP_X86_DISABLE_EXITS);
	kvm_enable_cap request{};
	request.cap = KVM_CAP_X86_DISABLE_EXITS;
	request.args[0] = KVM_X86_DISABLE_EXITS_HLT;
	REQUIRE_EQ(guest.vm.call(KVM_ENABLE_CAP, &request), 0);
	guest.set_handler(0x40, xapic_handler);
	CHECK(guest.time_to_report() >= 10 * millisecond);
}
TEST(apic_divider)
{
	Machine guest{divided};
	guest.set_handler(0x40, xapic_handler);
	CHECK(guest.time_to_report() >= 6400 * 1000);
}

TEST(x2apic_timer_one_shot)
{
	Machine guest{x2apic_one_shot};
	guest.set_handler(0x40, x2apic_handler);
	CHECK(guest.time_to_report() >= 5 * millisecond);
}

TEST(x2apic_timer_periodic)
{
	Machine guest{x2apic_periodic};
	guest.set_handler(0x40, x2apic_handler);
	CHECK(guest.time_to_report() >= 10 * millisecond);
}

TEST(apic_tsc_deadline)
{
	Machine guest{tsc_deadline};
	NEED(guest.system, KVM_CAP_TSC_DEADLINE_TIMER);
	guest.allow_tsc_deadline();
	guest.set_handler(0x40, xapic_handler);
	int khz = guest.vcpu.call(KVM_GET_TSC_KHZ);
	REQUIRE(khz > 0);
	u64 time = guest.time_to_report();
	// 400,000 ticks, but for what the measuring of time rounds off.
	CHECK(time >= 400'000ull * 990'000 / static_cast<u64>(khz));
	CHECK_EQ(guest.vcpu.regs().rbx, 2u);
}

TEST(apic_tsc_deadline_in_the_past_is_now)
{
	Machine guest{past_deadline};
	NEED(guest.system, KVM_CAP_TSC_DEADLINE_TIMER);
	guest.allow_tsc_deadline();
	guest.set_handler(0x40, xapic_handler);
	guest.time_to_report();
}

TEST(apic_tsc_deadline_is_disarmed_by_zero)
{
	Machine guest{deadline_disarmed};
	NEED(guest.system, KVM_CAP_TSC_DEADLINE_TIMER);
	guest.allow_tsc_deadline();
	guest.set_handler(0x40, xapic_handler);
	guest.time_to_report();
	CHECK_EQ(guest.vcpu.regs().rbx, 0u);
}

TEST(a_masked_timer_is_silent)
{
	Machine guest{masked_timer};
	guest.set_handler(0x40, xapic_handler);
	guest.time_to_report();
	CHECK_EQ(guest.vcpu.regs().rbx, 0u);
}

TEST(the_current_count_counts_down)
{
	Machine guest{counting_down};
	guest.time_to_report();
	kvm_regs regs = guest.vcpu.regs();
	CHECK(regs.rsi != 0);
	CHECK(regs.rdx < regs.rsi);
}

TEST(CVE_2013_6367_counts_that_nothing_divides)
{
	Machine guest{odd_counts};
	guest.time_to_report();
}

TEST(an_armed_timer_ends_with_its_vm)
{
	for (int i = 0; i < 20; ++i) {
		Machine guest{odd_counts};
		guest.vcpu->immediate_exit = 0;
		guest.time_to_report();
		kvm_lapic_state lapic{};
		REQUIRE_EQ(guest.vcpu.call(KVM_GET_LAPIC, &lapic), 0);
		u32 timer = 0x20040, count = 50'000, divide = 0xb;
		memcpy(lapic.regs + 0x320, &timer, 4);
		memcpy(lapic.regs + 0x380, &count, 4);
		memcpy(lapic.regs + 0x3e0, &divide, 4);
		REQUIRE_EQ(guest.vcpu.call(KVM_SET_LAPIC, &lapic), 0);
	}
}

TEST(pit_rate_generator)
{
	Machine guest{pit_rate};
	NEED(guest.system, KVM_CAP_PIT2);
	kvm_pit_config config{};
	REQUIRE_EQ(guest.vm.call(KVM_CREATE_PIT2, &config), 0);
	guest.set_handler(0x20, pic_handler);
	CHECK(guest.time_to_report() >= 12 * millisecond);
}

TEST(pit_interrupt_on_terminal_count)
{
	Machine guest{pit_one_shot};
	NEED(guest.system, KVM_CAP_PIT2);
	kvm_pit_config config{};
	REQUIRE_EQ(guest.vm.call(KVM_CREATE_PIT2, &config), 0);
	guest.set_handler(0x20, pic_handler);
	CHECK(guest.time_to_report() >= 4 * millisecond * 99 / 100);
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
}

TEST(pit_counter_is_readable)
{
	Machine guest{pit_counter};
	NEED(guest.system, KVM_CAP_PIT2);
	kvm_pit_config config{};
	REQUIRE_EQ(guest.vm.call(KVM_CREATE_PIT2, &config), 0);
	guest.time_to_report();
	u64 count = guest.vcpu.regs().rbx & 0xffff;
	CHECK(count > 0 && count <= 0x12a5);
}

TEST(without_a_pit_its_ports_are_userspace_s)
{
	Machine guest{pit_counter};
	CHECK_EXIT(guest, KVM_EXIT_IO);
	CHECK_EQ(guest.vcpu->io.port, 0x43);
}
