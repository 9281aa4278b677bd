// SPDX-License-Identifier: GPL-2.0-only
// Accesses to guest addresses behind which there is no memory: userspace answers, and the
// instruction does what it would have done.
#include <cstring>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

// Mapped by the guest's page tables, and in no slot.
constexpr u64 device_address = 0xd0000000;

void check_write(const Guest &guest, u64 address, u32 size, u64 value)
{
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	CHECK_EQ(guest.vcpu->mmio.is_write, 1);
	CHECK_EQ(guest.vcpu->mmio.phys_addr, address);
	CHECK_EQ(guest.vcpu->mmio.len, size);
	u64 written = 0;
	memcpy(&written, guest.vcpu->mmio.data, size <= 8 ? size : 8);
	CHECK_EQ(written, value);
}

void answer_read(const Guest &guest, u64 address, u32 size, u64 value)
{
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	CHECK_EQ(guest.vcpu->mmio.is_write, 0);
	CHECK_EQ(guest.vcpu->mmio.phys_addr, address);
	CHECK_EQ(guest.vcpu->mmio.len, size);
	memcpy(guest.vcpu->mmio.data, &value, 8);
}

constexpr u64 pattern = 0x1122334455667788;

} // namespace

#define AT_DEVICE "mov $0xd0000000, %edi\n"

GUEST_CODE(writes, 64, AT_DEVICE R"(
	movabs $0x1122334455667788, %rax
	mov %al, (%rdi)
	mov %ax, 8(%rdi)
	mov %eax, 0x10(%rdi)
	mov %rax, 0x18(%rdi)
	movl $0x11, 0x20(%rdi)
	movq $-2, 0x28(%rdi)
	mov %ah, 0x30(%rdi)
	hlt
)");

TEST(writes_of_every_size)
{
	Guest guest{Mode::long_mode, writes};
	check_write(guest, device_address, 1, 0x88);
	check_write(guest, device_address + 8, 2, 0x7788);
	check_write(guest, device_address + 0x10, 4, 0x55667788);
	check_write(guest, device_address + 0x18, 8, pattern);
	check_write(guest, device_address + 0x20, 4, 0x11);
	check_write(guest, device_address + 0x28, 8, ~1ull);
	check_write(guest, device_address + 0x30, 1, 0x77);
	guest.run_to_halt();
}

GUEST_CODE(reads, 64, AT_DEVICE R"(
	mov $-1, %rax
	mov %rax, %rbx
	mov %rax, %rcx
	mov %rax, %rdx
	mov (%rdi), %al
	mov 8(%rdi), %bx
	mov 0x10(%rdi), %ecx
	mov 0x18(%rdi), %rdx
	movzbl 0x20(%rdi), %r8d
	movsbq 0x21(%rdi), %r9
	movzwl 0x22(%rdi), %r10d
	movswq 0x24(%rdi), %r11
	movslq 0x28(%rdi), %r12
	hlt
)");

TEST(reads_of_every_size_and_extension)
{
	Guest guest{Mode::long_mode, reads};
	answer_read(guest, device_address, 1, pattern);
	answer_read(guest, device_address + 8, 2, pattern);
	answer_read(guest, device_address + 0x10, 4, pattern);
	answer_read(guest, device_address + 0x18, 8, pattern);
	answer_read(guest, device_address + 0x20, 1, 0xf1);
	answer_read(guest, device_address + 0x21, 1, 0xf2);
	answer_read(guest, device_address + 0x22, 2, 0xfff3);
	answer_read(guest, device_address + 0x24, 2, 0xfff4);
	answer_read(guest, device_address + 0x28, 4, 0xfffffff5);
	guest.run_to_halt();
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rax, 0xffffffffffffff88);
	CHECK_EQ(regs.rbx, 0xffffffffffff7788);
	CHECK_EQ(regs.rcx, 0x55667788u);
	CHECK_EQ(regs.rdx, pattern);
	CHECK_EQ(regs.r8, 0xf1u);
	CHECK_EQ(regs.r9, 0xfffffffffffffff2);
	CHECK_EQ(regs.r10, 0xfff3u);
	CHECK_EQ(regs.r11, 0xfffffffffffffff4);
	CHECK_EQ(regs.r12, 0xfffffffffffffff5);
}

GUEST_CODE(arithmetic, 64, AT_DEVICE R"(
	mov $5, %eax
	add (%rdi), %eax
	or $0x10, %ebx
	or %ebx, 4(%rdi)
	andl $0xf0, 8(%rdi)
	cmpl $7, 12(%rdi)
	sete %cl
	testb $1, 16(%rdi)
	setnz %ch
	xchg %eax, 20(%rdi)
	incl 24(%rdi)
	hlt
)");

TEST(instructions_that_read_and_write)
{
	Guest guest{Mode::long_mode, arithmetic};
	answer_read(guest, device_address, 4, 37);
	answer_read(guest, device_address + 4, 4, 1);
	check_write(guest, device_address + 4, 4, 0x11);
	answer_read(guest, device_address + 8, 4, 0xabc);
	check_write(guest, device_address + 8, 4, 0xb0);
	answer_read(guest, device_address + 12, 4, 7);
	answer_read(guest, device_address + 16, 1, 3);
	answer_read(guest, device_address + 20, 4, 99);
	check_write(guest, device_address + 20, 4, 42);
	answer_read(guest, device_address + 24, 4, 1000);
	check_write(guest, device_address + 24, 4, 1001);
	guest.run_to_halt();
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rax, 99u);
	CHECK_EQ(regs.rcx & 0xffff, 0x101u);
}

GUEST_CODE(strings, 64, R"(
	cld
	mov $0xd0000000, %edi
	mov $0x10000, %esi
	mov $3, %ecx
	rep movsb
	mov $0xd0000100, %esi
	mov $0x10100, %edi
	mov $2, %ecx
	rep movsl
	mov $0xd0000200, %edi
	mov $0x5a, %eax
	mov $2, %ecx
	rep stosw
	hlt
)");

TEST(string_instructions)
{
	Guest guest{Mode::long_mode, strings};
	memcpy(guest.memory.bytes() + at::data, "abc", 3);
	for (u64 i = 0; i < 3; ++i)
		check_write(guest, device_address + i, 1, "abc"[i]);
	answer_read(guest, device_address + 0x100, 4, 0x11111111);
	answer_read(guest, device_address + 0x104, 4, 0x22222222);
	check_write(guest, device_address + 0x200, 2, 0x5a);
	check_write(guest, device_address + 0x202, 2, 0x5a);
	guest.run_to_halt();
	CHECK_EQ(guest.value<u32>(at::data + 0x100), 0x11111111u);
	CHECK_EQ(guest.value<u32>(at::data + 0x104), 0x22222222u);
	CHECK_EQ(guest.vcpu.regs().rcx, 0u);
}

GUEST_CODE(across_pages, 64, R"(
	mov $0xd0000ffe, %edi
	mov $0x44332211, %eax
	mov %eax, (%rdi)
	mov (%rdi), %ebx
	hlt
)");

TEST(CVE_2026_31588_a_write_across_two_pages_comes_in_parts)
{
	Guest guest{Mode::long_mode, across_pages};
	check_write(guest, device_address + 0xffe, 2, 0x2211);
	check_write(guest, device_address + 0x1000, 2, 0x4433);
	answer_read(guest, device_address + 0xffe, 2, 0x6655);
	answer_read(guest, device_address + 0x1000, 2, 0x8877);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 0x88776655u);
}

GUEST_CODE(half_memory, 64, R"(
	mov $0x1ffffc, %edi
	movabs $0x1122334455667788, %rax
	mov %rax, (%rdi)
	mov (%rdi), %rbx
	hlt
)");

TEST(an_access_half_of_memory_half_of_device)
{
	Guest guest{Mode::long_mode, half_memory};
	check_write(guest, Guest::memory_size, 4, 0x11223344);
	answer_read(guest, Guest::memory_size, 4, 0x99aabbcc);
	guest.run_to_halt();
	CHECK_EQ(guest.value<u32>(Guest::memory_size - 4), 0x55667788u);
	CHECK_EQ(guest.vcpu.regs().rbx, 0x99aabbcc55667788);
}

GUEST_CODE(push_and_pop, 64, R"(
	mov $0xd0000010, %esp
	push $0x33
	pop %rbx
	hlt
)");

TEST(a_stack_on_a_device)
{
	Guest guest{Mode::long_mode, push_and_pop};
	check_write(guest, device_address + 8, 8, 0x33);
	answer_read(guest, device_address + 8, 8, 0x44);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 0x44u);
	CHECK_EQ(guest.vcpu.regs().rsp, device_address + 0x10);
}

GUEST_CODE(real_mode_device, 16, R"(
	mov $0x1234, %ax
	mov %ax, 0x10
	mov 0x20, %bl
	hlt
)");

TEST(real_mode)
{
	Guest guest{Mode::real, real_mode_device};
	// The slot ends below 2 MiB, so a data segment based there has nothing behind it.
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.ds.selector = 0x1000;
	sregs.ds.base = 0x10000;
	guest.vcpu.set(sregs);
	REQUIRE_EQ(guest.vm.set_slot(0, 0, 0, nullptr), 0);
	REQUIRE_EQ(guest.vm.set_slot(0, 0, 0x10000, guest.memory.bytes()), 0);
	check_write(guest, 0x10010, 2, 0x1234);
	answer_read(guest, 0x10020, 1, 0x56);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx & 0xff, 0x56u);
}

GUEST_CODE(protected_device, 32, R"(
	mov $0xd0000000, %edi
	mov $7, %eax
	mov %eax, (%edi)
	mov 4(%edi), %ebx
	hlt
)");

TEST(protected_mode)
{
	Guest guest{Mode::protected_mode, protected_device};
	check_write(guest, device_address, 4, 7);
	answer_read(guest, device_address + 4, 4, 8);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 8u);
}

GUEST_CODE(vector_store, 64, AT_DEVICE R"(
	movups 0x10000, %xmm0
	movups %xmm0, (%rdi)
	movups 0x10(%rdi), %xmm1
	movups %xmm1, 0x10010
	hlt
)");

TEST(vector_registers_go_in_two_parts)
{
	Guest guest{Mode::long_mode, vector_store};
	guest.value<u64>(at::data) = 0x1111111122222222;
	guest.value<u64>(at::data + 8) = 0x3333333344444444;
	check_write(guest, device_address, 8, 0x1111111122222222);
	check_write(guest, device_address + 8, 8, 0x3333333344444444);
	answer_read(guest, device_address + 0x10, 8, 5);
	answer_read(guest, device_address + 0x18, 8, 6);
	guest.run_to_halt();
	CHECK_EQ(guest.value<u64>(at::data + 0x10), 5u);
	CHECK_EQ(guest.value<u64>(at::data + 0x18), 6u);
}
