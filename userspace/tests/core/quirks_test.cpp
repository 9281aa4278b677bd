// SPDX-License-Identifier: GPL-2.0-only
// Habits of KVM's that a VMM can switch off (KVM API, 7.31), and what it may do before it says what
// processor its guest has.
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;

using Quirks = Machine;

long disable(const Vm &vm, u64 quirks, u32 capability = KVM_CAP_DISABLE_QUIRKS2)
{
	kvm_enable_cap request{};
	request.cap = capability;
	request.args[0] = quirks;
	return vm.ioctl(KVM_ENABLE_CAP, &request);
}

GuestExit invalid_opcode(Guest &guest)
{
	guest.set(field::guest_rip, Guest32::code_address);
	GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi);
	exit.event = vmx::EventInfo::of(vmx::EventType::hardware_exception, 6, false);
	return exit;
}

// What the guest is given after that exit.
std::optional<sim::Delivered> delivered_after(const Vcpu &vcpu, sim::GuestProgram exit)
{
	std::optional<sim::Delivered> delivered;
	EXPECT_EQ(vcpu.run(sim::in_turn({std::move(exit), [&](Guest &g) {
						 delivered = g.delivered;
						 return to_vmm(g);
					 }})),
		0);
	return delivered;
}

TEST_F(Quirks, OnlyThoseThatThereAreCanBeSwitchedOff)
{
	const Vm vm;
	const long known = vm.ioctl(KVM_CHECK_EXTENSION, long{KVM_CAP_DISABLE_QUIRKS2});
	EXPECT_GT(known, 0);
	EXPECT_EQ(disable(vm, static_cast<u64>(known)), 0);
	EXPECT_EQ(disable(vm, ~static_cast<u64>(known)), -EINVAL);
	EXPECT_EQ(disable(vm, ~0ull, KVM_CAP_DISABLE_QUIRKS), 0); // the old one never minds
}

TEST_F(Quirks, AHypercallOfAnotherProcessorIsRepaired)
{
	const Guest32 guest;
	constexpr u8 vmmcall[] = {0x0f, 0x01, 0xd9}, vmcall[] = {0x0f, 0x01, 0xc1};
	u8 *code = guest.ram.data() + Guest32::code_address;
	std::memcpy(code, vmmcall, sizeof vmmcall);
	EXPECT_FALSE(delivered_after(guest.vcpu, invalid_opcode));
	EXPECT_EQ(std::memcmp(code, vmcall, sizeof vmcall), 0);
	// Nothing else is.
	std::memcpy(code, "\x0f\x0b\xd9", 3);
	const auto undefined = delivered_after(guest.vcpu, invalid_opcode);
	ASSERT_TRUE(undefined);
	EXPECT_EQ(undefined->event.vector(), 6);
	EXPECT_EQ(code[1], 0x0b);
}

TEST_F(Quirks, AHypercallInRomIsRepairedByTheVmmOrNobody)
{
	constexpr u64 place = 0x100000;
	const Guest32 guest;
	const sim::UserMemory rom{1};
	ASSERT_EQ(guest.vm.set_slot(1, place, rom, KVM_MEM_READONLY), 0);
	std::memcpy(rom.data(), "\x0f\x01\xd9", 3);
	ASSERT_EQ(guest.vcpu.run([](Guest &g) {
		GuestExit exit = invalid_opcode(g);
		g.set(field::guest_rip, place);
		return exit;
	}),
		0);
	const kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_TRUE(run.mmio.is_write);
	EXPECT_EQ(run.mmio.phys_addr, place);
	EXPECT_EQ(rom.at<u8>(2), 0xd9);
}

TEST_F(Quirks, WithoutItAHypercallOfAnotherProcessorIsUndefined)
{
	const Guest32 guest;
	ASSERT_EQ(disable(guest.vm, KVM_X86_QUIRK_FIX_HYPERCALL_INSN), 0);
	u8 *code = guest.ram.data() + Guest32::code_address;
	std::memcpy(code, "\x0f\x01\xd9", 3);
	ASSERT_EQ(guest.vcpu.run(to_vmm), 0);
	sim::set_guest_program([](Guest &g) {
		EXPECT_FALSE(g.get(field::exception_bitmap) & 1 << 6);
		return to_vmm(g);
	});
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(code[2], 0xd9);
}

TEST_F(Quirks, MwaitIsNothingOrUndefined)
{
	const auto mwait = [](Guest &) { return GuestExit::of(ExitReason::mwait, 0, 3); };
	const Guest32 guest;
	EXPECT_FALSE(delivered_after(guest.vcpu, mwait));
	ASSERT_EQ(disable(guest.vm, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS), 0);
	const auto undefined = delivered_after(guest.vcpu, mwait);
	ASSERT_TRUE(undefined);
	EXPECT_EQ(undefined->event.vector(), 6);
}

TEST_F(Quirks, MonitorIsWhatMiscEnableSays)
{
	constexpr u64 monitor_enable = bit(18);
	const Guest32 guest;
	const auto offers_monitor = [&](u64 misc_enable) {
		u64 ecx = 0;
		EXPECT_EQ(guest.vcpu.run(sim::in_turn({[=](Guest &g) { return g.wrmsr(x86::msr::misc_enable, misc_enable); },
				  [](Guest &g) { return g.cpuid(1); },
				  [&](Guest &g) {
					  ecx = g.gprs[Gpr::rcx];
					  return to_vmm(g);
				  }})),
			0);
		return (ecx >> 3 & 1) != 0;
	};
	EXPECT_FALSE(offers_monitor(monitor_enable));
	ASSERT_EQ(disable(guest.vm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT), 0);
	EXPECT_TRUE(offers_monitor(monitor_enable));
	EXPECT_FALSE(offers_monitor(0));
}

TEST_F(Quirks, IdsOfVcpusEndWhereTheVmmSays)
{
	const Vm vm;
	EXPECT_EQ(disable(vm, 0, KVM_CAP_MAX_VCPU_ID), -EINVAL);
	EXPECT_EQ(disable(vm, 1 << 20, KVM_CAP_MAX_VCPU_ID), -EINVAL);
	EXPECT_EQ(disable(vm, 2, KVM_CAP_MAX_VCPU_ID), 0);
	EXPECT_EQ(disable(vm, 2, KVM_CAP_MAX_VCPU_ID), 0);
	EXPECT_EQ(disable(vm, 3, KVM_CAP_MAX_VCPU_ID), -EINVAL);
	EXPECT_EQ(vm.ioctl(KVM_CREATE_VCPU, 2ul), -EINVAL);
	const Vcpu vcpu = vm.create_vcpu(1);
	EXPECT_GE(vcpu.fd(), 0);
	const Vm late;
	const Vcpu first = late.create_vcpu();
	EXPECT_EQ(disable(late, 2, KVM_CAP_MAX_VCPU_ID), -EINVAL);
}

TEST_F(Quirks, RegistersBeforeTheProcessorIsDescribed)
{
	const Vm vm;
	const Vcpu vcpu = vm.create_vcpu();
	kvm_sregs sregs = vcpu.sregs();
	sregs.cr4 |= X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(vcpu.sregs().cr4, sregs.cr4);
	sregs.cr4 |= X86_CR4_VMXE;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), -EINVAL);
	// From then on it is that processor's.
	std::unique_ptr<CpuidTable> none = supported_cpuid();
	none->header.nent = 1;
	ASSERT_EQ(vcpu.ioctl(KVM_SET_CPUID2, none.get()), 0);
	sregs.cr4 = X86_CR4_PAE;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), -EINVAL);
}

TEST_F(Quirks, OnlyWhatCpuidSaysIfTheVmmInsists)
{
	constexpr u32 steal_time = 0x4b564d03, wall_clock = 0x11;
	const Guest32 guest;
	const auto write = [](u32 index) {
		return [index](Guest &g) { return g.wrmsr(index, 0); };
	};
	EXPECT_FALSE(delivered_after(guest.vcpu, write(steal_time)));
	std::unique_ptr<CpuidTable> nothing = supported_cpuid();
	nothing->header.nent = 1;
	kvm_enable_cap request{};
	request.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID;
	request.args[0] = 1;
	const Vm vm;
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_EQ(vcpu.ioctl(KVM_SET_CPUID2, nothing.get()), 0);
	ASSERT_EQ(vcpu.ioctl(KVM_ENABLE_CAP, &request), 0);
	for (const u32 index : {steal_time, wall_clock}) {
		const auto fault = delivered_after(vcpu, write(index));
		ASSERT_TRUE(fault);
		EXPECT_EQ(fault->event.vector(), 13);
	}
	EXPECT_EQ(vcpu.set_msr(steal_time, 0), 1); // the VMM may
	u64 answer = 0;
	EXPECT_EQ(vcpu.run(sim::in_turn({[](Guest &g) { return g.vmcall(5); },
			  [&](Guest &g) {
				  answer = g.gprs[Gpr::rax];
				  return to_vmm(g);
			  }})),
		0);
	EXPECT_EQ(static_cast<s32>(answer), -1000); // KVM_ENOSYS
}

TEST_F(Quirks, PlatformInfoIsHiddenIfTheVmmWants)
{
	const Guest32 guest;
	const auto read = [](Guest &g) { return g.rdmsr(x86::msr::platform_info); };
	EXPECT_FALSE(delivered_after(guest.vcpu, read));
	EXPECT_EQ(disable(guest.vm, 0, KVM_CAP_MSR_PLATFORM_INFO), 0);
	EXPECT_TRUE(delivered_after(guest.vcpu, read));
	EXPECT_TRUE(guest.vcpu.msr(x86::msr::platform_info));
}

TEST_F(Quirks, AClockThatWentOnMeanwhile)
{
	const Vm vm;
	kvm_clock_data clock{};
	ASSERT_EQ(vm.ioctl(KVM_GET_CLOCK, &clock), 0);
	ASSERT_TRUE(clock.flags & KVM_CLOCK_REALTIME);
	ASSERT_TRUE(clock.flags & KVM_CLOCK_HOST_TSC);
	kvm_clock_data later{};
	later.clock = 1'000'000;
	later.flags = KVM_CLOCK_REALTIME;
	later.realtime = clock.realtime - 5'000'000'000;
	ASSERT_EQ(vm.ioctl(KVM_SET_CLOCK, &later), 0);
	ASSERT_EQ(vm.ioctl(KVM_GET_CLOCK, &clock), 0);
	EXPECT_EQ(clock.clock, 5'001'000'000u);
	// Set back, it is not.
	later.realtime = clock.realtime + 5'000'000'000;
	ASSERT_EQ(vm.ioctl(KVM_SET_CLOCK, &later), 0);
	ASSERT_EQ(vm.ioctl(KVM_GET_CLOCK, &clock), 0);
	EXPECT_EQ(clock.clock, 1'000'000u);
	later.flags = 1;
	EXPECT_EQ(vm.ioctl(KVM_SET_CLOCK, &later), -EINVAL);
}

} // namespace
} // namespace kvmpp::tests
