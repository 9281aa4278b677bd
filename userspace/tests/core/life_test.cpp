// SPDX-License-Identifier: GPL-2.0-only
// A VM from its making to its end, and the common exits in between.
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;

using Life = Machine;

TEST_F(Life, AVmTakesVtxOnEveryCpuAndGivesItBack)
{
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	{
		Vm vm;
		ASSERT_GE(vm.fd(), 0);
		EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
		EXPECT_EQ(sim::file_name(vm.fd()), "kvm-vm");
		Vm second;
		second.close();
		EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	}
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
}

TEST_F(Life, TheVmLivesUntilItsLastDescriptorIsClosed)
{
	Vcpu vcpu;
	{
		Vm vm;
		vcpu = vm.create_vcpu();
		ASSERT_GE(vcpu.fd(), 0);
	}
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	EXPECT_EQ(sim::file_name(vcpu.fd()), "kvm-vcpu:0");
	vcpu.run([](Guest &guest) { return guest.hlt(); });
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Life, AFreshVcpuStartsAtTheResetVector)
{
	Vm vm;
	const Vcpu vcpu = vm.create_vcpu();
	const auto program = [](Guest &guest) {
		EXPECT_EQ(guest.get(field::guest_rip), 0xfff0u);
		EXPECT_EQ(guest.get(field::SegmentFields<x86::SegmentName::cs>::base), 0xffff0000u);
		EXPECT_EQ(guest.gprs[Gpr::rdx], 0x600u);
		return guest.hlt();
	};
	EXPECT_EQ(vcpu.run(program), 0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(vcpu.regs().rip, 0xfff1u);
}

TEST_F(Life, CpuidGivesWhatTheVmmHasSet)
{
	const Guest32 guest;
	const auto program = sim::in_turn({
		[](Guest &g) { return g.cpuid(0); },
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rbx], 0x756e6547u);
			EXPECT_EQ(g.get(field::guest_rip), Guest32::code_address + 2);
			return g.cpuid(0x40000000);
		},
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rbx], 0x4b4d564bu);
			return g.hlt();
		},
	});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.regs().rip, Guest32::code_address + 5);
}

TEST_F(Life, PortsGoToTheVmm)
{
	const Guest32 guest;
	const auto program = sim::in_turn({
		[](Guest &g) { return g.out(0x3f8, 1, 'x'); },
		[](Guest &g) { return g.in(0x3fd, 2); },
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rax] & 0xffff, 0xbeefu);
			return g.hlt();
		},
	});
	ASSERT_EQ(guest.vcpu.run(program), 0);
	kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(run.io.direction, KVM_EXIT_IO_OUT);
	EXPECT_EQ(run.io.port, 0x3f8);
	EXPECT_EQ(*guest.vcpu.port_data(), 'x');
	ASSERT_EQ(guest.vcpu.run(), 0);
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(run.io.direction, KVM_EXIT_IO_IN);
	EXPECT_EQ(run.io.size, 2);
	const u16 answer = 0xbeef;
	std::memcpy(guest.vcpu.port_data(), &answer, sizeof(answer));
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Life, MsrsOfTheGuest)
{
	const Guest32 guest;
	static constexpr u64 pat = 0x0606060606060606;
	const auto program = sim::in_turn({
		[](Guest &g) { return g.wrmsr(x86::msr::pat, pat); },
		[](Guest &g) {
			EXPECT_EQ(g.get(field::guest_pat), pat);
			return g.rdmsr(x86::msr::pat);
		},
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rax], pat & 0xffffffff);
			EXPECT_EQ(g.gprs[Gpr::rdx], pat >> 32);
			return g.rdmsr(0x1234);
		},
		[](Guest &g) {
			const auto gp = vmx::EventInfo::of(vmx::EventType::hardware_exception, 13, true);
			EXPECT_EQ(g.delivered, (sim::Delivered{gp, 0}));
			return g.hlt();
		},
	});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.msr(x86::msr::pat), pat);
}

TEST_F(Life, RamIsMappedAsTheGuestTouchesIt)
{
	const Guest32 guest;
	guest.ram.at<u32>(0x5000) = 0x12345678;
	unsigned faults = 0;
	const auto program = [&](Guest &g) {
		u32 value;
		if (const auto exit = g.read(0x5000, &value, sizeof(value))) {
			++faults;
			return *exit;
		}
		EXPECT_EQ(value, 0x12345678u);
		value = 0x87654321;
		if (const auto exit = g.write(0x6ffe, &value, sizeof(value))) {
			++faults;
			return *exit;
		}
		return g.hlt();
	};
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(faults, 3u); // the second access has a page boundary in it
	EXPECT_EQ(guest.ram.at<u16>(0x6ffe), 0x4321);
	EXPECT_EQ(guest.ram.at<u16>(0x7000), 0x8765);
	EXPECT_TRUE(guest.ram.dirty(6));
	EXPECT_FALSE(guest.ram.dirty(8));
	EXPECT_EQ(guest.ram.references(), 0u); // the watch of the address space suffices
}

TEST_F(Life, DevicesInMemoryGoToTheVmm)
{
	const Guest32 guest;
	// mov eax, [ebx]; mov [ebx], eax; hlt
	constexpr u8 code[] = {0x8b, 0x03, 0x89, 0x03, 0xf4};
	std::memcpy(guest.ram.data() + Guest32::code_address, code, sizeof(code));
	const auto touch = [](bool write) {
		return [write](Guest &g) {
			g.gprs[Gpr::rbx] = 0xd0000000;
			GuestExit exit = GuestExit::of(ExitReason::ept_violation, (write ? 2 : 1) | 3 << 7);
			exit.guest_physical = 0xd0000000;
			return exit;
		};
	};
	const auto program = sim::in_turn({touch(false), touch(true), [](Guest &g) { return g.hlt(); }});
	kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(guest.vcpu.run(program), 0);
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_EQ(run.mmio.phys_addr, 0xd0000000u);
	EXPECT_EQ(run.mmio.len, 4u);
	EXPECT_FALSE(run.mmio.is_write);
	const u32 answer = 0xcafe;
	std::memcpy(run.mmio.data, &answer, sizeof(answer));
	ASSERT_EQ(guest.vcpu.run(), 0);
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_TRUE(run.mmio.is_write);
	EXPECT_EQ(std::memcmp(run.mmio.data, &answer, sizeof(answer)), 0);
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(guest.vcpu.regs().rip, Guest32::code_address + 5);
}

TEST_F(Life, AnInterruptOfTheHostEndsTheGuestsRunAndNothingElse)
{
	const Guest32 guest;
	unsigned runs = 0;
	const auto program = [&](Guest &g) {
		if (++runs < 4)
			return GuestExit::of(ExitReason::external_interrupt);
		EXPECT_EQ(g.get(field::guest_rip), Guest32::code_address);
		return g.hlt();
	};
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(runs, 4u);
}

TEST_F(Life, ASignalEndsKvmRun)
{
	const Guest32 guest;
	sim::Thread &self = sim::this_thread();
	const auto program = [&](Guest &g) {
		sim::send_signal(self);
		return g.spin();
	};
	EXPECT_EQ(guest.vcpu.run(program), -EINTR);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_INTR});
	self.signal = false;
}

TEST_F(Life, AnInterruptWaitsForItsWindow)
{
	const Guest32 guest;
	kvm_interrupt interrupt{.irq = 0x40};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_INTERRUPT, &interrupt), 0);
	const auto program = sim::in_turn({
		[](Guest &g) {
			EXPECT_FALSE(g.delivered);
			// STI
			g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
			return GuestExit::of(ExitReason::external_interrupt);
		},
		[](Guest &g) {
			const auto event = vmx::EventInfo::of(vmx::EventType::external_interrupt, 0x40);
			EXPECT_EQ(g.delivered, (sim::Delivered{event, 0}));
			return g.hlt();
		},
	});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Life, AnotherAddressSpaceGetsEio)
{
	const Guest32 guest;
	sim::this_thread().address_space = 2;
	EXPECT_EQ(guest.vm.ioctl(KVM_CHECK_EXTENSION, 0ul), -EIO);
	EXPECT_EQ(guest.vcpu.run(), -EIO);
	sim::this_thread().address_space = 1;
}

TEST_F(Life, AVcpuMovesBetweenCpusAtAnyTime)
{
	for (const unsigned interval : {2, 3, 7, 20}) {
		const Guest32 guest;
		sim::preempt_every(interval);
		unsigned steps = 0;
		const auto program = [&](Guest &g) {
			switch (++steps) {
			case 1: return g.cpuid(1);
			case 2: return g.wrmsr(x86::msr::lstar, 0x1234);
			case 3: {
				u32 value = 0;
				const auto exit = g.write(0x3000, &value, 4);
				if (exit)
					--steps;
				return exit ? *exit : g.cpuid(0);
			}
			default: EXPECT_EQ(g.cpu.msrs.at(x86::msr::lstar), 0x1234u); return g.hlt();
			}
		};
		EXPECT_EQ(guest.vcpu.run(program), 0);
		EXPECT_EQ(guest.vcpu.msr(x86::msr::lstar), 0x1234u);
		sim::preempt_every(0);
	}
}

} // namespace kvmpp::tests
