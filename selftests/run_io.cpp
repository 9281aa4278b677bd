// SPDX-License-Identifier: GPL-2.0-only
// Port accesses of a guest that userspace answers, single and in strings.
#include <cstring>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

struct PortAccess {
	u8 direction, size;
	u16 port;
	u32 count;
};

void check_access(const Guest &guest, const PortAccess &expected)
{
	CHECK_EXIT(guest, KVM_EXIT_IO);
	CHECK_EQ(guest.vcpu->io.direction, expected.direction);
	CHECK_EQ(guest.vcpu->io.size, expected.size);
	CHECK_EQ(guest.vcpu->io.port, expected.port);
	CHECK_EQ(guest.vcpu->io.count, expected.count);
}

GUEST_CODE(outs_of_every_size, 64, R"(
	mov $0x12345678, %eax
	mov $0x1234, %dx
	out %al, $0x80
	out %ax, $0x81
	out %eax, $0x82
	out %al, %dx
	out %ax, %dx
	out %eax, %dx
	hlt
)");

GUEST_CODE(ins_of_every_size, 64, R"(
	mov $0xffff, %dx
	mov $-1, %rax
	in $0x80, %al
	mov %rax, %rbx
	mov $-1, %rax
	in $0x81, %ax
	mov %rax, %rcx
	mov $-1, %rax
	in %dx, %eax
	hlt
)");

GUEST_CODE(out_in_real_mode, 16, R"(
	mov $0x3f8, %dx
	mov $'k', %al
	out %al, %dx
	in %dx, %ax
	hlt
)");

// Writes RCX words of RSI, reads them back to RDI.
GUEST_CODE(copy_through_port, 64, R"(
	mov $0x60, %dx
	cld
	mov %rcx, %rbx
	rep outsw
	mov %rbx, %rcx
	rep insw
	hlt
)");

GUEST_CODE(backwards, 64, R"(
	mov $0x60, %dx
	std
	rep outsb
	cld
	hlt
)");

GUEST_CODE(single_string, 64, R"(
	mov $0x60, %dx
	outsb
	outsl
	insb
	hlt
)");

GUEST_CODE(real_mode_string, 16, R"(
	mov $0x60, %dx
	rep outsb
	hlt
)");

// Reads count values of a string from the exits of a guest, which may hand over any number at once.
u64 take_string(const Guest &guest, u8 *to, u64 bytes)
{
	u64 taken = 0;
	while (taken < bytes) {
		CHECK_EXIT(guest, KVM_EXIT_IO);
		REQUIRE_EQ(guest.vcpu->io.direction, KVM_EXIT_IO_OUT);
		u64 size = u64{guest.vcpu->io.size} * guest.vcpu->io.count;
		REQUIRE(size > 0 && size <= bytes - taken);
		memcpy(to + taken, guest.vcpu.io_data(), size);
		taken += size;
	}
	return taken;
}

u64 give_string(const Guest &guest, const u8 *from, u64 bytes)
{
	u64 given = 0;
	while (given < bytes) {
		CHECK_EXIT(guest, KVM_EXIT_IO);
		REQUIRE_EQ(guest.vcpu->io.direction, KVM_EXIT_IO_IN);
		u64 size = u64{guest.vcpu->io.size} * guest.vcpu->io.count;
		REQUIRE(size > 0 && size <= bytes - given);
		memcpy(guest.vcpu.io_data(), from + given, size);
		given += size;
	}
	return given;
}

} // namespace

TEST(writes_of_every_size)
{
	Guest guest{Mode::long_mode, outs_of_every_size};
	u16 port = 0x80;
	for (u8 size : {1, 2, 4}) {
		check_access(guest, {KVM_EXIT_IO_OUT, size, port++, 1});
		CHECK(memcmp(guest.vcpu.io_data(), "\x78\x56\x34\x12", size) == 0);
	}
	for (u8 size : {1, 2, 4}) {
		check_access(guest, {KVM_EXIT_IO_OUT, size, 0x1234, 1});
		CHECK(memcmp(guest.vcpu.io_data(), "\x78\x56\x34\x12", size) == 0);
	}
	guest.run_to_halt();
}

TEST(reads_change_as_much_of_the_register_as_they_are_wide)
{
	Guest guest{Mode::long_mode, ins_of_every_size};
	u32 value = 0x89abcdef;
	for (PortAccess expected :
		{PortAccess{KVM_EXIT_IO_IN, 1, 0x80, 1}, PortAccess{KVM_EXIT_IO_IN, 2, 0x81, 1},
			PortAccess{KVM_EXIT_IO_IN, 4, 0xffff, 1}}) {
		check_access(guest, expected);
		memcpy(guest.vcpu.io_data(), &value, expected.size);
	}
	guest.run_to_halt();
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rbx, 0xffffffffffffffef);
	CHECK_EQ(regs.rcx, 0xffffffffffffcdef);
	CHECK_EQ(regs.rax, 0x89abcdefu);
}

TEST(ports_in_real_mode)
{
	Guest guest{Mode::real, out_in_real_mode};
	check_access(guest, {KVM_EXIT_IO_OUT, 1, 0x3f8, 1});
	CHECK_EQ(*guest.vcpu.io_data(), 'k');
	check_access(guest, {KVM_EXIT_IO_IN, 2, 0x3f8, 1});
	memcpy(guest.vcpu.io_data(), "\x34\x12", 2);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rax, 0x1234u);
}

TEST(data_lies_within_the_run_pages)
{
	Guest guest{Mode::long_mode, outs_of_every_size};
	CHECK_EXIT(guest, KVM_EXIT_IO);
	CHECK(guest.vcpu->io.data_offset >= sizeof(kvm_run));
	CHECK(guest.vcpu->io.data_offset + 4 <= static_cast<u64>(guest.system.run_page_size()));
}

TEST(strings_go_out_and_come_in)
{
	// Long enough for several exits, and across pages.
	constexpr u64 words = 3000, from = at::data + 0xff0, to = 0x40000;
	Guest guest{Mode::long_mode, copy_through_port};
	for (u64 i = 0; i < words; ++i)
		guest.value<u16>(from + i * 2) = static_cast<u16>(i * 7 + 1);
	kvm_regs regs = guest.vcpu.regs();
	regs.rsi = from;
	regs.rdi = to;
	regs.rcx = words;
	guest.vcpu.set(regs);

	static u8 taken[words * 2];
	take_string(guest, taken, sizeof taken);
	CHECK(memcmp(taken, guest.memory.bytes() + from, sizeof taken) == 0);
	give_string(guest, taken, sizeof taken);
	guest.run_to_halt();
	CHECK(memcmp(taken, guest.memory.bytes() + to, sizeof taken) == 0);
	regs = guest.vcpu.regs();
	CHECK_EQ(regs.rcx, 0u);
	CHECK_EQ(regs.rsi, from + words * 2);
	CHECK_EQ(regs.rdi, to + words * 2);
}

TEST(strings_go_backwards)
{
	Guest guest{Mode::long_mode, backwards};
	memcpy(guest.memory.bytes() + at::data, "sdrawkcab", 9);
	kvm_regs regs = guest.vcpu.regs();
	regs.rsi = at::data + 8;
	regs.rcx = 9;
	guest.vcpu.set(regs);
	u8 taken[9];
	take_string(guest, taken, sizeof taken);
	CHECK(memcmp(taken, "backwards", 9) == 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rsi, at::data - 1);
}

TEST(strings_without_repetition)
{
	Guest guest{Mode::long_mode, single_string};
	memcpy(guest.memory.bytes() + at::data, "abcde", 5);
	kvm_regs regs = guest.vcpu.regs();
	regs.rsi = at::data;
	regs.rdi = at::data + 0x100;
	guest.vcpu.set(regs);
	check_access(guest, {KVM_EXIT_IO_OUT, 1, 0x60, 1});
	CHECK_EQ(*guest.vcpu.io_data(), 'a');
	check_access(guest, {KVM_EXIT_IO_OUT, 4, 0x60, 1});
	CHECK(memcmp(guest.vcpu.io_data(), "bcde", 4) == 0);
	check_access(guest, {KVM_EXIT_IO_IN, 1, 0x60, 1});
	*guest.vcpu.io_data() = 'z';
	guest.run_to_halt();
	CHECK_EQ(guest.value<u8>(at::data + 0x100), 'z');
	CHECK_EQ(guest.vcpu.regs().rsi, at::data + 5);
	CHECK_EQ(guest.vcpu.regs().rdi, at::data + 0x101);
}

TEST(a_string_of_no_length_is_nothing)
{
	Guest guest{Mode::long_mode, backwards};
	guest.run_to_halt();
}

TEST(strings_in_real_mode_use_the_segment)
{
	Guest guest{Mode::real, real_mode_string};
	memcpy(guest.memory.bytes() + at::data + 0x20, "segment", 7);
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.ds.selector = at::data >> 4;
	sregs.ds.base = at::data;
	guest.vcpu.set(sregs);
	kvm_regs regs = guest.vcpu.regs();
	regs.rsi = 0x20;
	regs.rcx = 7;
	guest.vcpu.set(regs);
	u8 taken[7];
	take_string(guest, taken, sizeof taken);
	CHECK(memcmp(taken, "segment", 7) == 0);
	guest.run_to_halt();
}
