// SPDX-License-Identifier: GPL-2.0-only
// What a guest does by itself: switching modes, exceptions, privilege, control and model-specific
// registers, floating point.
#include <cstring>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

// From real mode by hand to 64 bits, by the guest's own descriptor tables (SDM vol. 3, 9.8.5).
GUEST_CODE(climb_to_long_mode, 16, R"(
	lgdtl 0x7000
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $0x18, $(0x1000 + 1f - climb_to_long_mode_begin)
.code32
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x8000, %esp
	push $0x1234
	pop %ebx
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $0x8000, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x08, $(0x1000 + 2f - climb_to_long_mode_begin)
.code64
2:	movabs $0x123456789abcdef0, %rdi
	mov $0xc0000080, %ecx
	rdmsr
	mov %eax, %esi
	hlt
)");

// And back down, by way of a 16-bit segment (SDM vol. 3, 9.9.2).
GUEST_CODE(descend_to_real_mode, 32, R"(
	ljmp $0x40, $(0x1000 + 1f - descend_to_real_mode_begin)
.code16
1:	mov %cr0, %eax
	and $0x7ffffffe, %eax
	mov %eax, %cr0
	ljmp $0x100, $(2f - descend_to_real_mode_begin)
2:	mov $0x1234, %ax
	mov %ax, %ds
	mov %ds, %bx
	mov $0x5a, %al
	mov %al, 4
	hlt
)");

// Each leaves its vector in RBX, drops an error code where there is one, and halts.
#define HANDLER(vector) \
	GUEST_CODE(handle_##vector, 64, "mov $" #vector ", %ebx\n mov (%rsp), %rcx\n hlt")
HANDLER(0);
HANDLER(1);
HANDLER(3);
HANDLER(6);
HANDLER(8);
HANDLER(11);
HANDLER(12);
HANDLER(13);
HANDLER(14);
HANDLER(16);

struct Catching : Guest {
	explicit Catching(const Code &code) : Guest(Mode::long_mode, code)
	{
		CpuidTable table = supported_cpuid();
		table.find(1)->ecx &= ~(1u << 5); // no VMX
		REQUIRE_EQ(vcpu.set(table), 0);
		set_handler(0, handle_0);
		set_handler(1, handle_1);
		set_handler(3, handle_3);
		set_handler(6, handle_6);
		set_handler(8, handle_8);
		set_handler(11, handle_11);
		set_handler(12, handle_12);
		set_handler(13, handle_13);
		set_handler(14, handle_14);
		set_handler(16, handle_16);
	}

	static constexpr u64 none = 0xff;

	// The vector that the code ends with, or none.
	u64 vector() const
	{
		kvm_regs regs = vcpu.regs();
		regs.rbx = none;
		vcpu.set(regs);
		run_to_halt();
		return vcpu.regs().rbx;
	}
};

#define EXPECT_VECTOR(name, code, expected)              \
	GUEST_CODE(name##_code, 64, code "\nhlt");       \
	TEST(name)                                       \
	{                                                \
		Catching guest{name##_code};             \
		CHECK_EQ(guest.vector(), u64{expected}); \
	}

} // namespace

TEST(a_guest_climbs_from_real_to_long_mode)
{
	Guest guest{Mode::real, climb_to_long_mode};
	guest.value<u16>(0x7000) = 0x7f;
	guest.value<u32>(0x7002) = at::gdt;
	guest.run_to_halt();
	kvm_regs regs = guest.vcpu.regs();
	CHECK_EQ(regs.rbx, 0x1234u);
	CHECK_EQ(regs.rdi, 0x123456789abcdef0u);
	CHECK_EQ(regs.rsi & 0x500, 0x500u);
	kvm_sregs sregs = guest.vcpu.sregs();
	CHECK_EQ(sregs.efer & 0x500, 0x500u);
	CHECK_EQ(sregs.cs.l, 1);
	CHECK_EQ(sregs.cr0 & 0x80000001, 0x80000001u);
}

TEST(a_guest_descends_to_real_mode)
{
	Guest guest{Mode::protected_mode, descend_to_real_mode};
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx & 0xffff, 0x1234u);
	CHECK_EQ(guest.value<u8>(0x12344), 0x5a);
	kvm_sregs sregs = guest.vcpu.sregs();
	CHECK_EQ(sregs.cr0 & 1, 0u);
	CHECK_EQ(sregs.cs.base, 0x1000u);
	CHECK_EQ(sregs.ds.base, 0x12340u);
}

EXPECT_VECTOR(division_by_zero, "xor %ecx, %ecx\n div %ecx", 0)
EXPECT_VECTOR(breakpoint, "int3", 3)
EXPECT_VECTOR(undefined_instruction, "ud2", 6)
EXPECT_VECTOR(not_canonical_address, "movabs $0x800000000000, %rax\n mov (%rax), %rax", 13)
EXPECT_VECTOR(not_canonical_stack, "movabs $0x800000000000, %rbp\n mov (%rbp), %rax", 12)
EXPECT_VECTOR(page_not_mapped, "movabs $0x700000000000, %rax\n mov (%rax), %rax", 14)
EXPECT_VECTOR(selector_beyond_the_table, "mov $0x1000, %eax\n mov %eax, %ds", 13)

EXPECT_VECTOR(cr0_paging_without_protection, "mov %cr0, %rax\n and $-2, %rax\n mov %rax, %cr0", 13)
EXPECT_VECTOR(cr0_not_write_through_alone, "mov %cr0, %rax\n bts $29, %rax\n mov %rax, %cr0", 13)
EXPECT_VECTOR(cr0_high_half, "mov %cr0, %rax\n bts $40, %rax\n mov %rax, %cr0", 13)
EXPECT_VECTOR(cr4_reserved, "mov %cr4, %rax\n bts $31, %rax\n mov %rax, %cr4", 13)
EXPECT_VECTOR(cr4_pae_off_in_long_mode, "mov %cr4, %rax\n btr $5, %rax\n mov %rax, %cr4", 13)
EXPECT_VECTOR(cr3_beyond_physical_addresses, "mov %cr3, %rax\n bts $60, %rax\n mov %rax, %cr3", 13)
EXPECT_VECTOR(cr8_beyond_15, "mov $16, %eax\n mov %rax, %cr8", 13)
EXPECT_VECTOR(cr4_vmxe_without_vmx, "mov %cr4, %rax\n bts $13, %rax\n mov %rax, %cr4", 13)

EXPECT_VECTOR(msr_that_is_not, "mov $0x12345678, %ecx\n rdmsr", 13)
EXPECT_VECTOR(msr_that_is_not_written,
	"mov $0x12345678, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr", 13)
EXPECT_VECTOR(efer_reserved_bit, "mov $0xc0000080, %ecx\n rdmsr\n or $2, %eax\n wrmsr", 13)
EXPECT_VECTOR(
	efer_lme_while_paging, "mov $0xc0000080, %ecx\n rdmsr\n and $~0x100, %eax\n wrmsr", 13)
EXPECT_VECTOR(lstar_not_canonical,
	"mov $0xc0000082, %ecx\n mov $0x8000, %edx\n xor %eax, %eax\n wrmsr", 13)
EXPECT_VECTOR(lstar_canonical,
	"mov $0xc0000082, %ecx\n mov $0xffffffff, %edx\n mov $0x81000000, %eax\n"
	"wrmsr\n rdmsr\n cmp $0x81000000, %eax\n je 1f\n ud2\n 1:",
	Catching::none)
EXPECT_VECTOR(xsetbv_without_osxsave, "xor %ecx, %ecx\n mov $1, %eax\n xor %edx, %edx\n xsetbv", 6)
EXPECT_VECTOR(debug_registers_under_general_detect,
	"mov $0x2400, %eax\n mov %rax, %dr7\n mov %dr0, %rax", 1)
EXPECT_VECTOR(debug_control_high_half, "movabs $0x100000400, %rax\n mov %rax, %dr7", 13)
EXPECT_VECTOR(debug_registers_keep_addresses,
	"mov $0x1234, %eax\n mov %rax, %dr2\n xor %ecx, %ecx\n mov %dr2, %rcx\n"
	"cmp %rax, %rcx\n je 1f\n ud2\n 1:",
	Catching::none)
EXPECT_VECTOR(execution_breakpoint,
	"lea 1f(%rip), %rax\n mov %rax, %dr0\n mov $0x402, %eax\n mov %rax, %dr7\n nop\n 1: nop", 1)
EXPECT_VECTOR(single_step, "pushf\n orl $0x100, (%rsp)\n popf\n nop\n nop", 1)

EXPECT_VECTOR(vmxon_without_vmx, "push $0\n vmxon (%rsp)", 6)
EXPECT_VECTOR(vmptrld_without_vmx, "push $0\n vmptrld (%rsp)", 6)
EXPECT_VECTOR(vmlaunch_without_vmx, "vmlaunch", 6)
EXPECT_VECTOR(vmread_without_vmx, "vmread %rax, %rbx", 6)
EXPECT_VECTOR(vmxoff_without_vmx, "vmxoff", 6)
EXPECT_VECTOR(CVE_2014_3646_invvpid_without_vmx,
	"xor %eax, %eax\n sub $16, %rsp\n invvpid (%rsp), %rax", 6)
EXPECT_VECTOR(invept_without_vmx, "xor %eax, %eax\n sub $16, %rsp\n invept (%rsp), %rax", 6)
EXPECT_VECTOR(vmfunc_without_vmx, "xor %eax, %eax\n xor %ecx, %ecx\n vmfunc", 6)

EXPECT_VECTOR(hypercall_that_is_not,
	"mov $1000, %eax\n vmcall\n cmp $-1000, %rax\n je 1f\n ud2\n 1:", Catching::none)
// The clock may stand still for a while: an emulated one moves in steps.
EXPECT_VECTOR(time_goes_on,
	"mov $100000, %edi\n rdtsc\n mov %eax, %esi\n 2: rdtsc\n cmp %esi, %eax\n jne 1f\n"
	"dec %edi\n jnz 2b\n ud2\n 1:",
	Catching::none)
EXPECT_VECTOR(caches_may_be_flushed, "wbinvd\n invd", Catching::none)
EXPECT_VECTOR(
	pages_may_be_invalidated, "invlpg (%rsp)\n mov %cr3, %rax\n mov %rax, %cr3", Catching::none)
EXPECT_VECTOR(task_switched_flag,
	"mov %cr0, %rax\n or $8, %rax\n mov %rax, %cr0\n clts\n"
	"mov %cr0, %rax\n test $8, %al\n jz 1f\n ud2\n 1: smsw %ax\n lmsw %ax",
	Catching::none)

// --- privilege -----------------------------------------------------------------------------------

// Goes to privilege level 3 at the code behind it.
#define IN_RING_3(code)                                                                 \
	"pushq $0x23\n pushq $0x7800\n pushq $0x2\n pushq $0x2b\n lea 2f(%rip), %rax\n" \
	"push %rax\n iretq\n 2: " code

EXPECT_VECTOR(CVE_2010_0298_ring_3_writes_no_port, IN_RING_3("out %al, $0x80"), 13)
EXPECT_VECTOR(CVE_2010_0298_ring_3_reads_no_port, IN_RING_3("in $0x80, %al"), 13)
EXPECT_VECTOR(ring_3_halts_nothing, IN_RING_3("nop"), 13)
EXPECT_VECTOR(ring_3_reads_no_msr, IN_RING_3("mov $0x10, %ecx\n rdmsr"), 13)
EXPECT_VECTOR(ring_3_writes_no_cr, IN_RING_3("mov %rax, %cr3"), 13)
EXPECT_VECTOR(CVE_2018_12904_ring_3_vmxon, IN_RING_3("push $0\n vmxon (%rsp)"), 6)
EXPECT_VECTOR(ring_3_page_fault_is_delivered,
	IN_RING_3("movabs $0x700000000000, %rax\n mov (%rax), %al"), 14)

// Kernel pages only: what ring 3 reaches is mapped for it in every entry of the test's tables.
EXPECT_VECTOR(ring_3_device_access_is_emulated_with_its_privilege,
	IN_RING_3("mov $0xd0000000, %edi\n lidt (%rdi)"), 13)

// --- floating point ------------------------------------------------------------------------------

GUEST_CODE(keep_vector_registers, 64, R"(
	movdqu 0x10000, %xmm0
	movdqu 0x10010, %xmm15
	fldpi
	out %al, $0x10
	movdqu %xmm0, 0x10100
	movdqu %xmm15, 0x10110
	fstpl 0x10120
	hlt
)");

TEST(vector_registers_survive_exits_and_other_guests)
{
	Guest one{Mode::long_mode, keep_vector_registers},
		two{Mode::long_mode, keep_vector_registers};
	for (u64 i = 0; i < 32; ++i) {
		one.value<u8>(at::data + i) = static_cast<u8>(i + 1);
		two.value<u8>(at::data + i) = static_cast<u8>(0x80 + i);
	}
	one.run_to_out(0x10);
	two.run_to_out(0x10);
	kvm_fpu fpu{};
	REQUIRE_EQ(one.vcpu.call(KVM_GET_FPU, &fpu), 0);
	CHECK(memcmp(fpu.xmm[0], one.memory.bytes() + at::data, 16) == 0);
	CHECK(memcmp(fpu.xmm[15], one.memory.bytes() + at::data + 16, 16) == 0);
	two.run_to_halt();
	one.run_to_halt();
	for (auto *guest : {&one, &two}) {
		CHECK_EQ(memcmp(guest->memory.bytes() + at::data,
				 guest->memory.bytes() + at::data + 0x100, 32),
			0);
		CHECK_EQ(guest->value<u64>(at::data + 0x120), 0x400921fb54442d18u);
	}
}

// --- counting ------------------------------------------------------------------------------------

GUEST_CODE(count_cpuids, 64, R"(
	mov $1000, %esi
1:	xor %eax, %eax
	cpuid
	dec %esi
	jnz 1b
	hlt
)");

TEST(exits_that_the_kernel_handles_do_not_reach_userspace)
{
	Guest guest{Mode::long_mode, count_cpuids};
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rsi, 0u);
}
