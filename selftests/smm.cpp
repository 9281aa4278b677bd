// SPDX-License-Identifier: GPL-2.0-only
// System management mode: its own memory, the state that an SMI saves and RSM brings back, who sends SMIs and
// what has to wait meanwhile.
#include <cerrno>
#include "interrupts.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

constexpr u32 smram_slot = 1 << 16;
constexpr u64 smbase = 0x100000, smram_size = 0x20000, entry = 0x8000;
constexpr u32 msr_smbase = 0x9e, msr_smi_count = 0x34;
constexpr u16 handler_port = 0x98;

// Says so and spoils registers before it returns.
GUEST_CODE(plain_handler, 16, R"(
	out %al, $0x98
	xor %eax, %eax
	mov %ax, %ss
	mov %ax, %ds
	mov %eax, %ebx
	mov %eax, %esp
	rsm
)");
// Moves SMRAM for the next SMI (SMBASE of the wide layout).
GUEST_CODE(moving_handler, 16, R"(
	mov $0x10ff00, %esi
	movl $0x110000, (%esi)
	out %al, $0x98
	rsm
)");
GUEST_CODE(reading_handler, 16, R"(
	mov $0x102000, %esi
	mov (%esi), %al
	out %al, $0x98
	movb $0x33, (%esi)
	rsm
)");
// CR0 with paging and without protection.
GUEST_CODE(spoiling_handler, 16, R"(
	mov $0x10ff58, %esi
	movl $0x80000000, (%esi)
	rsm
)");
GUEST_CODE(counting_handler, 16, R"(
	mov $0x103000, %esi
	incl (%esi)
	rsm
)");

GUEST_CODE(reports_twice, 64, "out %al, $0x99\n out %al, $0x99\n hlt");
GUEST_CODE(reports_twice_32, 32, "out %al, $0x99\n out %al, $0x99\n hlt");
GUEST_CODE(reports_twice_16, 16, "out %al, $0x99\n out %al, $0x99\n hlt");
GUEST_CODE(reads_102000, 64, "mov 0x102000, %al\n out %al, $0x99\n mov 0x102000, %al\n out %al, $0x99\n hlt");
GUEST_CODE(rsm_guest, 64, "rsm\n hlt");
GUEST_CODE(reads_smbase, 64, "mov $0x9e, %ecx\n rdmsr\n hlt");
GUEST_CODE(writes_smi_count, 64, "mov $0x34, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n hlt");
GUEST_CODE(smi_to_itself, 64, X2APIC_ENABLE MSR_WRITE(0x830, 0x44200, 0) REPORT REPORT);
GUEST_CODE(spinning, 64, "sti\n 1: incl 0x10000\n pause\n jmp 1b");
GUEST_CODE(halting, 64, "1: movb $1, 0x10000\n hlt\n jmp 1b");
// In Bochs an entry blocks NMIs and never unblocks them: after another guest's SMM only IRET does.
GUEST_CODE(reports_after_iret, 64, R"(
	mov %rsp, %rax
	push $0x10
	push %rax
	pushf
	push $0x08
	lea 1f(%rip), %rcx
	push %rcx
	iretq
1:	out %al, $0x99
	out %al, $0x99
	hlt
)");
GUEST_CODE(handle_fault, 64, "mov $0x66, %ebx\n hlt");
GUEST_CODE(handle_nmi, 64, "mov $0x02, %ebx\n out %al, $0x97\n iretq");
GUEST_CODE(after_init, 16, "out %al, $0x96");

struct Smm : Guest {
	Smm(Mode mode, const Code &code, const Code &handler, With what = without)
		: Guest(mode, code, what)
	{
		NEED(system, KVM_CAP_X86_SMM);
		REQUIRE_EQ(vm.set_slot(smram_slot, smbase, smram_size, smram.bytes()), 0);
		REQUIRE_EQ(vcpu.set_msr(msr_smbase, smbase), 1);
		put(entry, handler);
	}
	void put(u64 offset, const Code &handler) const
	{
		memcpy(smram.bytes() + offset, handler.begin, handler.size());
	}
	template <typename T>
	T &saved(u64 offset) const
	{
		return *reinterpret_cast<T *>(smram.bytes() + offset);
	}
	void smi() const { REQUIRE_EQ(vcpu.call(KVM_SMI), 0); }
	bool in_smm() const { return vcpu->flags & KVM_RUN_X86_SMM; }
	kvm_vcpu_events events() const
	{
		kvm_vcpu_events events{};
		REQUIRE_EQ(vcpu.call(KVM_GET_VCPU_EVENTS, &events), 0);
		return events;
	}
	// KVM knows where a message goes once the APIC was touched.
	void enable_apic() const
	{
		REQUIRE_EQ(vcpu.set_msr(0x1b, 0xfee00d00), 1);
		REQUIRE_EQ(vcpu.set_msr(0x80f, 0x1ff), 1);
	}
	int send(u32 mode) const
	{
		kvm_msi msi{};
		msi.address_lo = 0xfee00000;
		msi.data = mode << 8;
		return vm.call(KVM_SIGNAL_MSI, &msi);
	}

	Backing smram{smram_size};
};

void there_and_back(Mode mode, const Code &code)
{
	Smm guest{mode, code, plain_handler};
	kvm_regs before = guest.vcpu.regs();
	before.rax = 0x1234567890;
	before.rbx = 0x1122334455667788;
	before.r8 = 8;
	before.r15 = 0xfedcba9876543210;
	guest.vcpu.set(before);
	kvm_sregs segments = guest.vcpu.sregs();
	CHECK_EQ(guest.run_to_out(report_port), 0x90u);
	CHECK(!guest.in_smm());
	guest.smi();
	CHECK(guest.events().smi.pending);
	guest.run_to_out(handler_port);
	CHECK(guest.in_smm());
	CHECK(guest.events().smi.smm);
	CHECK(!guest.events().smi.pending);
	kvm_sregs inside = guest.vcpu.sregs();
	CHECK_EQ(inside.cr0 & 0x80000001, 0u);
	CHECK_EQ(inside.cr4, 0u);
	CHECK_EQ(inside.efer, 0u);
	CHECK_EQ(inside.cs.base, smbase);
	CHECK_EQ(inside.cs.selector, smbase >> 4 & 0xffff);
	CHECK_EQ(guest.vcpu.regs().rflags, 2u);

	CHECK_EQ(guest.run_to_out(report_port), 0x90u);
	CHECK(!guest.in_smm());
	CHECK(!guest.events().smi.smm);
	kvm_regs after = guest.vcpu.regs();
	before.rip = after.rip;
	CHECK_EQ(memcmp(&before, &after, sizeof after), 0);
	kvm_sregs back = guest.vcpu.sregs();
	for (auto place : {&kvm_sregs::cs, &kvm_sregs::ds, &kvm_sregs::es, &kvm_sregs::fs, &kvm_sregs::gs,
		     &kvm_sregs::ss, &kvm_sregs::tr}) {
		CHECK_EQ((back.*place).base, (segments.*place).base);
		CHECK_EQ((back.*place).limit, (segments.*place).limit);
		CHECK_EQ((back.*place).selector, (segments.*place).selector);
		CHECK_EQ((back.*place).l, (segments.*place).l);
		CHECK_EQ((back.*place).db, (segments.*place).db);
	}
	CHECK_EQ(back.gdt.base, segments.gdt.base);
	CHECK_EQ(back.idt.limit, segments.idt.limit);
	CHECK_EQ(back.cr0, segments.cr0);
	CHECK_EQ(back.cr3, segments.cr3);
	CHECK_EQ(back.cr4, segments.cr4);
	CHECK_EQ(back.efer, segments.efer);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.msr(msr_smi_count), 1u);
}

} // namespace

TEST(it_is_offered_with_an_address_space)
{
	System system;
	CHECK_EQ(system.extension(KVM_CAP_X86_SMM), 1);
	CHECK_EQ(system.extension(KVM_CAP_MULTI_ADDRESS_SPACE), 2);
}

TEST(there_and_back_from_long_mode)
{
	there_and_back(Mode::long_mode, reports_twice);
}

TEST(there_and_back_from_protected_mode)
{
	there_and_back(Mode::protected_mode, reports_twice_32);
}

TEST(there_and_back_from_real_mode)
{
	there_and_back(Mode::real, reports_twice_16);
}

TEST(the_saved_state_is_where_the_manual_has_it)
{
	Smm guest{Mode::long_mode, reports_twice, plain_handler};
	kvm_regs regs = guest.vcpu.regs();
	regs.rdx = 0xdddddddddd;
	guest.vcpu.set(regs);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.saved<u32>(0xfefc), 0x00020064u);
	CHECK_EQ(guest.saved<u32>(0xff00), smbase);
	CHECK_EQ(guest.saved<u64>(0xff78), at::code + 2);
	CHECK_EQ(guest.saved<u64>(0xffe8), 0xddddddddddu);
	CHECK_EQ(guest.saved<u64>(0xff50), at::page_tables);
	CHECK_EQ(guest.saved<u16>(0xfe10), selector::code64);
	CHECK_EQ(guest.saved<u64>(0xfe68), at::gdt);
	// What the handler changes there is what comes back.
	guest.saved<u64>(0xffe8) = 0xabc;
	guest.run_to_out(report_port);
	CHECK_EQ(guest.vcpu.regs().rdx, 0xabcu);
}

TEST(without_long_mode_it_is_elsewhere)
{
	Smm guest{Mode::protected_mode, reports_twice_32, plain_handler};
	CpuidTable table = supported_cpuid();
	table.find(0x80000001)->edx &= ~(1u << 29);
	REQUIRE_EQ(guest.vcpu.set(table), 0);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.saved<u32>(0xfefc), 0x00020000u);
	CHECK_EQ(guest.saved<u32>(0xfef8), smbase);
	CHECK_EQ(guest.saved<u32>(0xfff0), at::code + 2);
	CHECK_EQ(guest.saved<u32>(0xffe0), at::stack_top);
	guest.run_to_out(report_port);
	CHECK_EQ(guest.vcpu.regs().rsp, at::stack_top);
	guest.run_to_halt();
}

TEST(each_sees_its_own_memory)
{
	Smm guest{Mode::long_mode, reads_102000, reading_handler};
	guest.value<u8>(0x102000) = 0x11;
	guest.saved<u8>(0x2000) = 0x22;
	CHECK_EQ(guest.run_to_out(report_port), 0x11u);
	guest.smi();
	CHECK_EQ(guest.run_to_out(handler_port), 0x22u);
	CHECK_EQ(guest.run_to_out(report_port), 0x11u);
	CHECK_EQ(guest.saved<u8>(0x2000), 0x33);
	CHECK_EQ(guest.value<u8>(0x102000), 0x11);
}

TEST(its_slots_have_numbers_and_logs_of_their_own)
{
	Smm guest{Mode::long_mode, reports_twice, reading_handler};
	CHECK_EQ(guest.vm.set_slot(2 << 16, 0x400000, page, guest.smram.bytes()), -EINVAL);
	CHECK_EQ(guest.vm.set_slot(smram_slot | 1, smbase, page, guest.smram.bytes()), -EEXIST);
	REQUIRE_EQ(guest.vm.set_slot(
			   smram_slot, smbase, smram_size, guest.smram.bytes(), KVM_MEM_LOG_DIRTY_PAGES),
		0);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	guest.run_to_out(report_port);
	u64 bits = 0;
	kvm_dirty_log log{};
	log.slot = smram_slot;
	log.dirty_bitmap = &bits;
	CHECK_EQ(guest.vm.call(KVM_GET_DIRTY_LOG, &log), 0);
	// Pages that are only read may count as well.
	CHECK_EQ(bits & 0x8004, 1u << 2 | 1u << 15);
	CHECK_EQ(bits & ~0x8104ull, 0u);
	log.slot = 0;
	CHECK_EQ(guest.vm.call(KVM_GET_DIRTY_LOG, &log), -ENOENT);
	CHECK_EQ(guest.vm.set_slot(smram_slot, smbase, 0, nullptr), 0);
}

TEST(the_handler_moves_smram)
{
	Smm guest{Mode::long_mode, reports_twice, moving_handler};
	guest.put(0x10000 + entry, plain_handler);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.vcpu.msr(msr_smbase), smbase);
	guest.run_to_out(report_port);
	CHECK_EQ(guest.vcpu.msr(msr_smbase), smbase + 0x10000);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.vcpu.sregs().cs.base, smbase + 0x10000);
	guest.run_to_halt();
}

TEST(a_guest_outside_has_nothing_to_do_with_its_registers)
{
	Smm guest{Mode::long_mode, reads_smbase, plain_handler};
	guest.set_handler(13, handle_fault);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 0x66u);

	Smm writing{Mode::long_mode, writes_smi_count, plain_handler};
	writing.set_handler(13, handle_fault);
	writing.run_to_halt();
	CHECK_EQ(writing.vcpu.regs().rbx, 0x66u);
}

TEST(rsm_outside_is_undefined)
{
	Smm guest{Mode::long_mode, rsm_guest, plain_handler};
	guest.set_handler(6, handle_fault);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rbx, 0x66u);
}

TEST(rsm_to_an_impossible_state_shuts_down)
{
	Smm guest{Mode::long_mode, reports_twice, spoiling_handler};
	guest.run_to_out(report_port);
	guest.smi();
	CHECK_EXIT(guest, KVM_EXIT_SHUTDOWN);
}

TEST(a_second_smi_waits)
{
	Smm guest{Mode::long_mode, reports_twice, plain_handler};
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	guest.smi();
	guest.smi();
	CHECK(guest.events().smi.pending);
	guest.run_to_out(handler_port);
	CHECK(!guest.events().smi.pending);
	guest.run_to_out(report_port);
	CHECK_EQ(guest.vcpu.msr(msr_smi_count), 2u);
}

TEST(an_nmi_waits)
{
	Smm guest{Mode::long_mode, reports_after_iret, plain_handler};
	guest.set_handler(2, handle_nmi);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK(guest.events().nmi.masked);
	REQUIRE_EQ(guest.vcpu.call(KVM_NMI), 0);
	guest.run_to_out(0x97);
	CHECK(!guest.in_smm());
	// In its handler an SMI leaves NMIs blocked.
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK(guest.events().smi.smm_inside_nmi);
	guest.run_to_out(report_port);
	CHECK(!guest.events().nmi.masked);
}

TEST(an_init_waits)
{
	Smm guest{Mode::long_mode, reports_twice, plain_handler, Guest::with_irqchip};
	Backing rom{page};
	guest.enable_apic();
	memcpy(rom.bytes() + 0xff0, after_init.begin, after_init.size());
	REQUIRE_EQ(guest.vm.set_slot(1, 0xfffff000, page, rom.bytes()), 0);
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.send(5), 1);
	kvm_mp_state waits{KVM_MP_STATE_INIT_RECEIVED};
	CHECK_EQ(guest.vcpu.call(KVM_SET_MP_STATE, &waits), -EINVAL);
	CHECK(guest.events().smi.latched_init);
	guest.run_to_out(0x96);
	CHECK(!guest.in_smm());
	CHECK_EQ(guest.vcpu.sregs().cs.base, 0xffff0000u);
	CHECK_EQ(guest.vcpu.msr(msr_smbase), smbase);
}

TEST(the_apic_sends_smis)
{
	Smm guest{Mode::long_mode, smi_to_itself, plain_handler, Guest::with_irqchip};
	guest.run_to_out(handler_port);
	CHECK(guest.in_smm());
	guest.run_to_out(report_port);
	CHECK_EQ(guest.send(2), 1);
	guest.run_to_out(handler_port);
	guest.run_to_out(report_port);
	CHECK_EQ(guest.vcpu.msr(msr_smi_count), 2u);
}

TEST(an_smi_finds_a_guest_that_runs)
{
	Smm guest{Mode::long_mode, spinning, counting_handler, Guest::with_irqchip};
	guest.enable_apic();
	Running running{guest};
	wait_for(guest.value<u8>(0x10000));
	for (u32 i = 1; i <= 20; ++i) {
		REQUIRE_EQ(guest.send(2), 1);
		wait_for(guest.saved<u8>(0x3000));
		CHECK(advances(guest.value<u32>(0x10000)));
	}
	running.finish();
	CHECK_EQ(guest.saved<u32>(0x3000), 20u);
}

TEST(an_smi_finds_a_guest_that_halts)
{
	Smm guest{Mode::long_mode, halting, counting_handler, Guest::with_irqchip};
	guest.enable_apic();
	Running running{guest};
	wait_for(guest.value<u8>(0x10000));
	usleep(20000);
	REQUIRE_EQ(guest.send(2), 1);
	wait_for(guest.saved<u8>(0x3000));
	running.finish();
	CHECK_EQ(guest.saved<u32>(0x3000), 1u);
	CHECK(!guest.events().smi.smm);
}

TEST(a_vmm_brings_the_mode_back)
{
	Smm guest{Mode::long_mode, reports_twice, plain_handler, Guest::with_irqchip};
	guest.run_to_out(report_port);
	guest.smi();
	guest.run_to_out(handler_port);
	kvm_vcpu_events events = guest.events();
	CHECK(events.flags & KVM_VCPUEVENT_VALID_SMM);
	events.smi.smm = 0;
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_VCPU_EVENTS, &events), 0);
	CHECK(!guest.events().smi.smm);
	events.smi.smm = 1;
	events.smi.pending = 1;
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_VCPU_EVENTS, &events), 0);
	guest.run_to_out(handler_port);
	CHECK_EQ(guest.vcpu.msr(msr_smi_count), 2u);
	guest.run_to_out(report_port);
	// A processor that waits for its SIPI is not in SMM.
	kvm_mp_state waits{KVM_MP_STATE_INIT_RECEIVED};
	REQUIRE_EQ(guest.vcpu.call(KVM_SET_MP_STATE, &waits), 0);
	CHECK_EQ(guest.vcpu.call(KVM_SET_VCPU_EVENTS, &events), -EINVAL);
}
