// SPDX-License-Identifier: GPL-2.0-only
// Processors without unrestricted guests: they enter protected mode with paging only.
#include <algorithm>
#include "tests/core/machine.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace field = vmx::field;
namespace primary = vmx::primary;

class Restricted : public Machine {
protected:
	Restricted() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		constexpr u64 allowed = u64{vmx::secondary::unrestricted_guest} << 32;
		sim::set_msr_everywhere(
			x86::msr::vmx_secondary, sim::cpu(0).msrs.at(x86::msr::vmx_secondary) & ~allowed);
		load();
	}
};

// A vCPU in real mode at code_address, CS:IP = 0:code_address.
struct RealMode {
	static constexpr u64 code_address = 0x1000, ram_pages = 16;

	explicit RealMode(std::initializer_list<u8> code)
	{
		vm.set_slot(0, 0, ram);
		vcpu = vm.create_vcpu();
		std::ranges::copy(code, ram.data() + code_address);
		kvm_sregs sregs = vcpu.sregs();
		sregs.cs.base = sregs.cs.selector = 0;
		EXPECT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
		kvm_regs regs{};
		regs.rip = code_address;
		regs.rsp = 0x8000;
		regs.rflags = 2;
		EXPECT_EQ(vcpu.ioctl(KVM_SET_REGS, &regs), 0);
	}

	Vm vm;
	sim::UserMemory ram{ram_pages};
	Vcpu vcpu;
};

// An entry would end the test: there is no program.
TEST_F(Restricted, RealModeRunsInSoftware)
{
	// mov $0x1234, %ax; out %al, $0x42; hlt
	const RealMode guest{0xb8, 0x34, 0x12, 0xe6, 0x42, 0xf4};
	ASSERT_EQ(guest.vcpu.run(), 0);
	ASSERT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(guest.vcpu.shared().io.port, 0x42);
	EXPECT_EQ(*guest.vcpu.port_data(), 0x34);
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(guest.vcpu.regs().rip, RealMode::code_address + 6);
}

TEST_F(Restricted, InterruptsOfRealModeGoThroughItsTable)
{
	// sti; nop; nop; hlt
	const RealMode guest{0xfb, 0x90, 0x90, 0xf4};
	const u16 handler[] = {0x2000, 0};
	std::memcpy(guest.ram.data() + 0x20 * 4, handler, sizeof(handler));
	guest.ram.data()[0x2000] = 0xf4;
	kvm_interrupt interrupt{.irq = 0x20};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_INTERRUPT, &interrupt), 0);
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(guest.vcpu.regs().rip, 0x2001u);
	u16 pushed;
	std::memcpy(&pushed, guest.ram.data() + 0x8000 - 6, sizeof(pushed));
	EXPECT_EQ(pushed, RealMode::code_address + 2);
}

TEST_F(Restricted, TheProcessorTakesOverOnceTheSegmentsAreProtectedModes)
{
	// mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $8, $0x2000; there: mov $16, %eax; mov %eax, %ss
	const RealMode guest{0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x00, 0x20, 0x00, 0x00,
		0x08, 0x00};
	const u8 far_code[] = {0xb8, 0x10, 0, 0, 0, 0x8e, 0xd0};
	std::memcpy(guest.ram.data() + 0x2000, far_code, sizeof(far_code));
	const u64 flat[] = {0x00cf9b000000ffff, 0x00cf93000000ffff};
	std::memcpy(guest.ram.data() + 0x3008, flat, sizeof(flat));
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.gdt = {.base = 0x3000, .limit = 23, .padding = {}};
	// A stack segment that protected mode could not have loaded with that code segment.
	sregs.ss.selector = 1;
	sregs.ss.base = 0x10;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	unsigned entries = 0;
	const auto program = [&](Guest &g) {
		++entries;
		EXPECT_EQ(g.get(field::guest_rip), 0x2000 + sizeof(far_code));
		return g.hlt();
	};
	ASSERT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(entries, 1u);
	EXPECT_EQ(guest.vcpu.regs().rip, 0x2000 + sizeof(far_code) + 1);
}

TEST_F(Restricted, WithoutPagingTheGuestRunsOnAnIdentityMap)
{
	static constexpr u64 directory = 0xfffbc000;
	const Guest32 guest;
	unsigned entries = 0;
	const auto look = [&](Guest &g) {
		++entries;
		EXPECT_EQ(g.get(field::guest_cr3), directory);
		EXPECT_TRUE(g.get(field::guest_cr0) & X86_CR0_PG);
		EXPECT_TRUE(g.get(field::guest_cr4) & X86_CR4_PSE);
		EXPECT_FALSE(g.get(field::cr0_read_shadow) & X86_CR0_PG);
		EXPECT_TRUE(g.get(field::primary_controls) & primary::cr3_load_exiting);
		if (entries > 1)
			return g.hlt();
		// The walk of the directory faults once: no slot is there, and yet it is no device.
		GuestExit violation = GuestExit::of(vmx::ExitReason::ept_violation, 1);
		violation.guest_physical = directory;
		return violation;
	};
	ASSERT_EQ(guest.vcpu.run(look), 0);
	EXPECT_EQ(entries, 2u);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(guest.vcpu.sregs().cr3, 0u);
}

// A handler that reports by its port.
void give_smram(const Vm &vm, const sim::UserMemory &smram)
{
	constexpr u8 handler[] = {0xb0, 0xfe, 0xe6, 0x44, 0x0f, 0xaa}; // mov $0xfe, %al; out %al, $0x44; rsm
	std::ranges::copy(handler, smram.data() + 0x8000);
	ASSERT_EQ(vm.set_slot(1 << 16, 0x30000, smram), 0);
}

TEST_F(Restricted, RealModesSmiIsHandledInSoftware)
{
	// mov $0x12, %al; out %al, $0x42; out %al, $0x43; hlt
	const RealMode guest{0xb0, 0x12, 0xe6, 0x42, 0xe6, 0x43, 0xf4};
	const sim::UserMemory smram{16};
	give_smram(guest.vm, smram);
	const auto next_port = [&] {
		EXPECT_EQ(guest.vcpu.run(), 0);
		EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
		return guest.vcpu.shared().io.port;
	};
	EXPECT_EQ(next_port(), 0x42);
	ASSERT_EQ(sim::ioctl(guest.vcpu.fd(), KVM_SMI), 0);
	EXPECT_EQ(next_port(), 0x44);
	EXPECT_EQ(*guest.vcpu.port_data(), 0xfe);
	EXPECT_TRUE(guest.vcpu.shared().flags & KVM_RUN_X86_SMM);
	EXPECT_EQ(next_port(), 0x43);
	EXPECT_EQ(*guest.vcpu.port_data(), 0x12);
	EXPECT_FALSE(guest.vcpu.shared().flags & KVM_RUN_X86_SMM);
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Restricted, FromSmmTheProcessorTakesOverAgain)
{
	const Guest32 guest;
	const sim::UserMemory smram{16};
	give_smram(guest.vm, smram);
	const kvm_sregs before = guest.vcpu.sregs();
	ASSERT_EQ(sim::ioctl(guest.vcpu.fd(), KVM_SMI), 0);
	ASSERT_EQ(guest.vcpu.run(), 0) << "without an entry: there is no program";
	EXPECT_EQ(guest.vcpu.shared().io.port, 0x44);
	unsigned entries = 0;
	ASSERT_EQ(guest.vcpu.run([&](Guest &g) {
		++entries;
		EXPECT_EQ(g.get(field::guest_rip), Guest32::code_address);
		return g.hlt();
	}),
		0);
	EXPECT_EQ(entries, 1u);
	const kvm_sregs after = guest.vcpu.sregs();
	EXPECT_EQ(std::memcmp(&before, &after, sizeof(before)), 0);
}

TEST_F(Restricted, PagingIsTheGuestsOwn)
{
	const Guest32 guest;
	guest.vcpu.enter_long_mode(Guest32::code_address, 0x4000);
	const auto look = [](Guest &g) {
		EXPECT_EQ(g.get(field::guest_cr3), 0x4000u);
		EXPECT_FALSE(g.get(field::primary_controls) & primary::cr3_load_exiting);
		return g.hlt();
	};
	ASSERT_EQ(guest.vcpu.run(look), 0);
	EXPECT_EQ(guest.vcpu.sregs().cr3, 0x4000u);
}

} // namespace
} // namespace kvmpp::tests
