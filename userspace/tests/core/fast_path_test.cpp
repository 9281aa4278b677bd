// SPDX-License-Identifier: GPL-2.0-only
// Short exits are answered with interrupts off; nothing that waits for the host or the guest waits for that.
#include <linux/kvm_para.h>
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;
namespace msr = x86::msr;

class FastPaths : public Machine {
protected:
	static u64 leaves() { return sim::this_cpu().counts.guest_leaves; }

	// How often the host had its interrupts on between this exit and the next entry of the guest itself,
	// which `look` sees.
	static u64 leaves_after(const Vcpu &vcpu, sim::GuestProgram exit, sim::GuestProgram look = {})
	{
		u64 before = 0, after = 0;
		const auto counted = [&](Guest &g) {
			before = leaves();
			return exit(g);
		};
		const auto ends = [&](Guest &g) {
			after = leaves();
			if (look)
				look(g);
			return GuestExit::of(ExitReason::triple_fault);
		};
		EXPECT_EQ(vcpu.run(sim::in_turn({counted, ends})), 0);
		EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
		return after - before;
	}
	static sim::GuestProgram plain(ExitReason reason)
	{
		return [=](Guest &) { return GuestExit::of(reason, 0, 2); };
	}
};

constexpr auto asks_cpuid = [](Guest &g) { return g.cpuid(0); };

TEST_F(FastPaths, ShortExitsLeaveInterruptsOff)
{
	const struct {
		const char *name;
		sim::GuestProgram exit;
		u64 length;
	} short_ones[] = {
		{"CPUID", asks_cpuid, 2},
		{"VMCALL", [](Guest &g) { return g.vmcall(0x7777); }, 3},
		{"RDMSR", [](Guest &g) { return g.rdmsr(msr::apic_base); }, 2},
		{"WRMSR", [](Guest &g) { return g.wrmsr(msr::tsc_deadline, 0); }, 2},
		{"PAUSE", plain(ExitReason::pause), 2},
	};
	for (const auto &[name, exit, length] : short_ones) {
		const Guest32 guest;
		ASSERT_EQ(guest.vcpu.set_supported_cpuid(), 0);
		EXPECT_EQ(leaves_after(guest.vcpu, exit, [&](Guest &g) {
			EXPECT_EQ(g.get(field::guest_rip), Guest32::code_address + length) << name;
			return GuestExit{};
		}), 0u) << name;
	}
}

TEST_F(FastPaths, OtherExitsDoNot)
{
	const sim::GuestProgram others[] = {
		[](Guest &g) { return g.wrmsr(msr::misc_enable, 0); },
		[](Guest &g) { return g.vmcall(KVM_HC_SCHED_YIELD); },
		[](Guest &g) { return g.vmcall(KVM_HC_SEND_IPI); },
		plain(ExitReason::external_interrupt),
	};
	for (const auto &exit : others) {
		const Guest32 guest;
		EXPECT_EQ(leaves_after(guest.vcpu, exit), 1u);
	}
}

TEST_F(FastPaths, AnIoeventfdIsSignalledWithInterruptsOff)
{
	const Descriptor eventfd{sim::make_eventfd()};
	kvm_ioeventfd request{};
	request.addr = 0x600;
	request.len = 2;
	request.fd = eventfd.number();
	request.flags = KVM_IOEVENTFD_FLAG_PIO;
	const auto with_ioeventfd = [&](const Vm &vm) { ASSERT_EQ(vm.ioctl(KVM_IOEVENTFD, &request), 0); };
	const auto writes = [](u16 port, unsigned size) {
		return [=](Guest &g) { return g.out(port, size, 0); };
	};

	const Guest32 guest;
	with_ioeventfd(guest.vm);
	EXPECT_EQ(leaves_after(guest.vcpu, writes(0x600, 2)), 0u);
	EXPECT_EQ(sim::take_eventfd(eventfd.number()), 1u);

	// What it does not take is the VMM's, and a chip's writes are the chip's.
	const Guest32 other;
	with_ioeventfd(other.vm);
	for (const auto &missed : {writes(0x600, 1), writes(0x601, 2)}) {
		EXPECT_EQ(other.vcpu.run(missed), 0);
		EXPECT_EQ(other.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
	}
	EXPECT_EQ(sim::take_eventfd(eventfd.number()), 0u);
	const Vm with_chips;
	ASSERT_EQ(with_chips.ioctl(KVM_CREATE_IRQCHIP), 0);
	with_ioeventfd(with_chips);
	const Vcpu vcpu = with_chips.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	EXPECT_EQ(leaves_after(vcpu, writes(0x21, 1)), 1u);
}

TEST_F(FastPaths, AKickEndsIt)
{
	const Guest32 guest;
	const auto kicked = [](Guest &g) {
		g.cpu.kick();
		return g.cpuid(0);
	};
	EXPECT_EQ(leaves_after(guest.vcpu, kicked), 1u);
}

TEST_F(FastPaths, ASignalEndsIt)
{
	const Guest32 guest;
	unsigned entries = 0;
	const auto signalled = [&](Guest &g) {
		if (++entries == 3)
			sim::send_signal(sim::this_thread());
		EXPECT_LE(entries, 3u);
		return g.cpuid(0);
	};
	EXPECT_EQ(guest.vcpu.run(signalled), -EINTR);
	sim::this_thread().signal = false;
	EXPECT_EQ(entries, 3u);
}

TEST_F(FastPaths, WhatRaisesAnExceptionIsForTheWholePath)
{
	const Guest32 guest;
	EXPECT_EQ(leaves_after(guest.vcpu, [](Guest &g) { return g.rdmsr(0x12345); }, [](Guest &g) {
		EXPECT_TRUE(g.delivered);
		return GuestExit{};
	}), 1u);
	EXPECT_EQ(leaves_after(guest.vcpu, [](Guest &g) { return g.wrmsr(msr::spec_ctrl, ~u64{0}); }, [](Guest &g) {
		EXPECT_TRUE(g.delivered);
		return GuestExit{};
	}), 1u);
}

TEST_F(FastPaths, SingleStepsSeeEachInstruction)
{
	const Guest32 guest;
	kvm_regs regs = guest.vcpu.regs();
	regs.rflags |= X86_EFLAGS_TF;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_REGS, &regs), 0);
	EXPECT_EQ(leaves_after(guest.vcpu, asks_cpuid, [](Guest &g) {
		EXPECT_TRUE(g.delivered && g.delivered->event.vector() == 1);
		return GuestExit{};
	}), 1u);

	const Guest32 debugged;
	kvm_guest_debug debug{};
	debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	ASSERT_EQ(debugged.vcpu.ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	EXPECT_EQ(debugged.vcpu.run(asks_cpuid), 0);
	EXPECT_EQ(debugged.vcpu.shared().exit_reason, u32{KVM_EXIT_DEBUG});
}

// Two vCPUs: the one that is waited for may want this CPU.
TEST_F(FastPaths, AProcessorOfManyThatSpinsMayGiveItsCpuAway)
{
	const Guest32 guest;
	const Vcpu other = guest.vm.create_vcpu(1);
	EXPECT_EQ(leaves_after(guest.vcpu, plain(ExitReason::pause)), 1u);
}

} // namespace
} // namespace kvmpp::tests
