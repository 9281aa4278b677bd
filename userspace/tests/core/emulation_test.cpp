// SPDX-License-Identifier: GPL-2.0-only
// Instructions that are executed in software because they touch a device: what the emulator asks of a
// vCPU, and what the VMM is asked for in between.
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;

constexpr u64 device = 0xd0000000;

class Emulation : public Machine {
protected:
	void SetUp() override
	{
		Machine::SetUp();
		guest_.emplace();
		kvm_sregs sregs = guest_->vcpu.sregs();
		sregs.cr4 |= X86_CR4_OSFXSR;
		ASSERT_EQ(guest_->vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	}
	void TearDown() override
	{
		guest_.reset();
		Machine::TearDown();
	}

	// Executes the bytes at the code's address, with the exit of an access to the device; then a
	// triple fault. The VMM's answers to reads are `answer`, and what it sees of writes is kept.
	void execute(std::initializer_list<u8> bytes, std::function<void(Guest &)> prepare = {})
	{
		std::copy(bytes.begin(), bytes.end(), guest_->ram.data() + Guest32::code_address);
		const auto program = [&, entries = 0](Guest &g) mutable {
			if (entries++ == 0) {
				g.gprs[Gpr::rbx] = device;
				g.set(field::guest_rip, Guest32::code_address);
				if (prepare)
					prepare(g);
			} else if (g.delivered || g.get(field::guest_rip) != Guest32::code_address) {
				after_ = g.gprs;
				rip_ = g.get(field::guest_rip);
				delivered_ = g.delivered;
				return GuestExit::of(ExitReason::triple_fault);
			}
			// An instruction that repeats goes on where it was left.
			GuestExit exit = GuestExit::of(ExitReason::ept_violation, 0x181);
			exit.guest_physical = device;
			return exit;
		};
		sim::set_guest_program(program);
		written_.clear();
		reads_ = 0;
		kvm_run &run = guest_->vcpu.shared();
		for (unsigned i = 0; i < 64; ++i) {
			ASSERT_EQ(guest_->vcpu.run(), 0);
			if (run.exit_reason == KVM_EXIT_MMIO && run.mmio.is_write) {
				u64 value = 0;
				std::memcpy(&value, run.mmio.data, run.mmio.len);
				written_.push_back(value);
			} else if (run.exit_reason == KVM_EXIT_MMIO) {
				++reads_;
				std::memcpy(run.mmio.data, &answer_, sizeof(answer_));
			} else if (run.exit_reason == KVM_EXIT_IO && run.io.direction == KVM_EXIT_IO_IN) {
				for (u32 n = 0; n < run.io.count * run.io.size; ++n)
					guest_->vcpu.port_data()[n] = static_cast<u8>('a' + n);
			} else {
				return;
			}
		}
		FAIL() << "the instruction never ends";
	}
	u32 reason() const { return guest_->vcpu.shared().exit_reason; }

	std::optional<Guest32> guest_;
	u64 answer_ = 0, rip_ = 0;
	x86::Gprs after_{};
	std::optional<sim::Delivered> delivered_;
	std::vector<u64> written_;
	unsigned reads_ = 0;
};

TEST_F(Emulation, AReadModifyWriteReadsOnceAndWritesOnce)
{
	answer_ = 40;
	execute({0x83, 0x03, 0x02}); // add dword [ebx], 2
	EXPECT_EQ(reads_, 1u);
	EXPECT_EQ(written_, std::vector<u64>{42});
	EXPECT_EQ(rip_, Guest32::code_address + 3);
	answer_ = 5;
	execute({0xf0, 0x0f, 0xc1, 0x03}, [](Guest &g) { g.gprs[Gpr::rax] = 3; }); // lock xadd
	EXPECT_EQ(written_, std::vector<u64>{8});
	EXPECT_EQ(after_[Gpr::rax], 5u);
}

// 2026-31588: a write that crosses a page boundary is kept by value over its two exits.
TEST_F(Emulation, AWriteAcrossPagesIsTwoExits)
{
	execute({0x89, 0x83, 0xfe, 0x0f, 0x00, 0x00}, // mov [ebx + 0xffe], eax
		[](Guest &g) { g.gprs[Gpr::rax] = 0x44332211; });
	EXPECT_EQ(written_, (std::vector<u64>{0x2211, 0x4433}));
	EXPECT_EQ(rip_, Guest32::code_address + 6);
}

TEST_F(Emulation, VectorsAndBytes)
{
	answer_ = 0x0706050403020100;
	execute({0x0f, 0x6f, 0x03}); // movq mm0, [ebx]
	execute({0x0f, 0x7f, 0x03}); // movq [ebx], mm0
	EXPECT_EQ(written_, std::vector<u64>{answer_});
	execute({0xf3, 0x0f, 0x6f, 0x0b}); // movdqu xmm1, [ebx]
	EXPECT_EQ(reads_, 2u);
	execute({0x66, 0x0f, 0x7f, 0x0b}); // movdqa [ebx], xmm1
	EXPECT_EQ(written_, (std::vector<u64>{answer_, answer_}));
	execute({0x8a, 0x23}); // mov ah, [ebx]
	EXPECT_EQ(after_[Gpr::rax] & 0xff00, 0u);
}

TEST_F(Emulation, StringsBetweenMemoryAndADevice)
{
	answer_ = 'z';
	execute({0xf3, 0xa4}, [](Guest &g) { // rep movsb to RAM
		g.gprs[Gpr::rsi] = device;
		g.gprs[Gpr::rdi] = 0x3000;
		g.gprs[Gpr::rcx] = 4;
	});
	EXPECT_EQ(after_[Gpr::rcx], 0u);
	EXPECT_EQ(std::string(reinterpret_cast<char *>(guest_->ram.data() + 0x3000), 4), "zzzz");
	execute({0xf3, 0xaa}, [](Guest &g) { // rep stosb to the device
		g.gprs[Gpr::rdi] = device;
		g.gprs[Gpr::rax] = 7;
		g.gprs[Gpr::rcx] = 3;
	});
	EXPECT_EQ(written_, (std::vector<u64>{7, 7, 7}));
	execute({0xf3, 0x6c}, [](Guest &g) { // rep insb
		g.gprs[Gpr::rdi] = 0x4000;
		g.gprs[Gpr::rdx] = 0x3f8;
		g.gprs[Gpr::rcx] = 5;
	});
	EXPECT_EQ(std::string(reinterpret_cast<char *>(guest_->ram.data() + 0x4000), 5), "abcde");
}

TEST_F(Emulation, AFaultIsTheGuests)
{
	execute({0x0f, 0x0b}); // ud2
	ASSERT_TRUE(delivered_);
	EXPECT_EQ(delivered_->event.vector(), 6);
	// Privileged state, as an emulated instruction reads and changes it.
	execute({0x0f, 0x20, 0xc0}); // mov eax, cr0
	EXPECT_TRUE(after_[Gpr::rax] & X86_CR0_PE);
	execute({0x0f, 0x22, 0xd0}, [](Guest &g) { g.gprs[Gpr::rax] = 0x1234; }); // mov cr2, eax
	execute({0x0f, 0x20, 0xd0}); // mov eax, cr2
	EXPECT_EQ(after_[Gpr::rax], 0x1234u);
	execute({0x0f, 0x22, 0xc0}, [](Guest &g) { g.gprs[Gpr::rax] = X86_CR0_PG; }); // mov cr0
	ASSERT_TRUE(delivered_);
	EXPECT_EQ(delivered_->event.vector(), 13);
	execute({0x0f, 0x23, 0xc0}, [](Guest &g) { g.gprs[Gpr::rax] = 0x77; }); // mov dr0, eax
	execute({0x0f, 0x21, 0xc0}); // mov eax, dr0
	EXPECT_EQ(after_[Gpr::rax], 0x77u);
	execute({0x0f, 0xa2}, [](Guest &g) { g.gprs[Gpr::rax] = 0; }); // cpuid
	EXPECT_EQ(after_[Gpr::rbx], 0x756e6547u);
	execute({0x0f, 0x32}, [](Guest &g) { g.gprs[Gpr::rcx] = x86::msr::pat; }); // rdmsr
	EXPECT_EQ(after_[Gpr::rax], 0x00070406u);
	execute({0x0f, 0x30}, [](Guest &g) { // wrmsr
		g.gprs[Gpr::rcx] = 0x1234;
	});
	ASSERT_TRUE(delivered_);
	EXPECT_EQ(delivered_->event.vector(), 13);
	execute({0x0f, 0x33}); // rdpmc
	ASSERT_TRUE(delivered_);
	execute({0x0f, 0x01, 0xc1}, [](Guest &g) { g.gprs[Gpr::rax] = 1; }); // vmcall
	EXPECT_EQ(after_[Gpr::rax], 0u);
	execute({0xe4, 0x60}); // in al, 0x60
	EXPECT_EQ(after_[Gpr::rax] & 0xff, u64{'a'});
}

TEST_F(Emulation, InterruptFlagAndHalt)
{
	execute({0xfb}); // sti
	EXPECT_EQ(rip_, Guest32::code_address + 1);
	execute({0xf4}); // hlt
	EXPECT_EQ(reason(), u32{KVM_EXIT_HLT});
	execute({0x8e, 0x13}); // mov ss, [ebx]: what a device holds is no selector
	EXPECT_TRUE(delivered_ || reason() == KVM_EXIT_SHUTDOWN);
	execute({0x0f, 0x01, 0x3b}); // invlpg [ebx]
	EXPECT_EQ(rip_, Guest32::code_address + 3);
	execute({0x0f, 0x01, 0x03}); // sgdt [ebx]
	EXPECT_EQ(written_.size(), 2u);
	answer_ = 0;
	execute({0x0f, 0x01, 0x13}); // lgdt [ebx]
	EXPECT_GT(reads_, 0u);
}

// What nobody knows goes to the VMM from the kernel, and to the program that tried it otherwise.
TEST_F(Emulation, AnUnknownInstruction)
{
	execute({0x0f, 0x38, 0xf9, 0x03}); // movdiri
	if (reason() == KVM_EXIT_INTERNAL_ERROR) {
		const auto &failure = guest_->vcpu.shared().emulation_failure;
		EXPECT_EQ(failure.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
		EXPECT_EQ(failure.insn_bytes[0], 0x0f);
	} else {
		EXPECT_TRUE(delivered_ || !written_.empty());
	}
}

TEST_F(Emulation, TheVmmMovesTheGuestWhileItWaits)
{
	std::memcpy(guest_->ram.data() + Guest32::code_address, "\x8b\x03", 2); // mov eax, [ebx]
	sim::set_guest_program(sim::in_turn({[](Guest &g) {
		g.gprs[Gpr::rbx] = device;
		g.gprs[Gpr::rax] = 1;
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, 0x181);
		exit.guest_physical = device;
		return exit;
	},
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rax], 2u);
			EXPECT_EQ(g.get(field::guest_rip), 0x2000u);
			return g.hlt();
		}}));
	ASSERT_EQ(guest_->vcpu.run(), 0);
	ASSERT_EQ(reason(), u32{KVM_EXIT_MMIO});
	// The answer is void.
	kvm_regs regs = guest_->vcpu.regs();
	regs.rip = 0x2000;
	regs.rax = 2;
	ASSERT_EQ(guest_->vcpu.ioctl(KVM_SET_REGS, &regs), 0);
	ASSERT_EQ(guest_->vcpu.run(), 0);
	EXPECT_EQ(reason(), u32{KVM_EXIT_HLT});
}

TEST_F(Emulation, ATaskGate)
{
	// Without a TSS that could be switched to the guest gets #TS or #GP, and nothing else happens.
	const auto program = sim::in_turn({[](Guest &) {
		return GuestExit::of(ExitReason::task_switch, u64{3} << 30 | 0x28, 2);
	},
		[](Guest &g) {
			EXPECT_TRUE(g.delivered);
			return GuestExit::of(ExitReason::triple_fault);
		}});
	EXPECT_EQ(guest_->vcpu.run(program), 0);
}

TEST_F(Emulation, ANewTaskWithoutCodeTakesItsOwnFault)
{
	constexpr u64 gdt = 0x3000, idt = 0x4000, old_tss = 0x5000, new_tss = 0x6000, stack = 0x7000;
	constexpr u64 handler = 0x2000, entry = 0x1800;
	constexpr u16 code = 8, data = 0x10, user_data = 0x1b, task = 0x28;
	const auto put = [&](u64 address, u64 value, unsigned size) {
		std::memcpy(guest_->ram.data() + address, &value, size);
	};
	put(gdt + code, 0x00cf'9b00'0000'ffff, 8);
	put(gdt + data, 0x00cf'9300'0000'ffff, 8);
	put(gdt + 0x18, 0x00cf'f300'0000'ffff, 8);
	put(gdt + task, 0x0000'8900'0000'0067 | new_tss << 16, 8);
	put(idt + 10 * 8, handler | u64{code} << 16 | u64{0x8e00} << 32, 8);
	put(new_tss + 4, stack, 4);
	put(new_tss + 8, data, 4);
	put(new_tss + 32, entry, 4);
	put(new_tss + 36, 2, 4);
	put(new_tss + 76, data | 3, 4); // CS
	put(new_tss + 80, user_data, 4);
	kvm_sregs sregs = guest_->vcpu.sregs();
	sregs.gdt = {.base = gdt, .limit = 0x3f, .padding = {}};
	sregs.idt = {.base = idt, .limit = 0xff, .padding = {}};
	sregs.tr.base = old_tss;
	sregs.tr.limit = 0x67;
	sregs.tr.selector = 0x20;
	ASSERT_EQ(guest_->vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);

	const auto program = sim::in_turn({[](Guest &) {
		return GuestExit::of(ExitReason::task_switch, u64{3} << 30 | task, 2);
	},
		[&](Guest &g) {
			EXPECT_EQ(g.get(field::guest_rip), handler);
			return GuestExit::of(ExitReason::triple_fault);
		}});
	EXPECT_EQ(guest_->vcpu.run(program), 0);
	EXPECT_EQ(reason(), u32{KVM_EXIT_SHUTDOWN});
	EXPECT_EQ(guest_->vcpu.sregs().tr.selector, task);
	u32 frame[3];
	std::memcpy(frame, guest_->ram.data() + stack - 24, sizeof(frame));
	EXPECT_EQ(frame[0], data);
	EXPECT_EQ(frame[1], entry);
	EXPECT_EQ(frame[2], data | 3u);
}

TEST_F(Emulation, TheLocalApicAndTheIoapicByMemory)
{
	const Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const sim::UserMemory ram{16};
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_protected_mode(0x1000);
	std::memcpy(ram.data() + 0x1000, "\x8b\x03\x89\x03", 4); // mov eax, [ebx]; mov [ebx], eax
	const auto touch = [](u64 address, u64 apic_access = 0) {
		return [=](Guest &g) {
			g.gprs[Gpr::rbx] = address;
			if (apic_access)
				return GuestExit::of(ExitReason::apic_access, apic_access);
			GuestExit exit = GuestExit::of(ExitReason::ept_violation, 0x181);
			exit.guest_physical = address;
			return exit;
		};
	};
	EXPECT_EQ(vcpu.run(sim::in_turn({touch(0xfee00030, 0x30), touch(0xfee000f0, 0x10f0),
			  [&](Guest &g) {
				  EXPECT_EQ(g.gprs[Gpr::rax] & 0xff, 0x14u); // the APIC's version
				  g.set(field::guest_rip, 0x1000);
				  return touch(0xfec00000)(g);
			  },
			  touch(0xfec00010),
			  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
		0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

} // namespace
} // namespace kvmpp::tests
