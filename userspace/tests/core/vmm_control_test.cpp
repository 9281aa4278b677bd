// SPDX-License-Identifier: GPL-2.0-only
// What a VMM takes into its own hands: debugging, MSRs, registers in the run page.
#include "tests/core/machine.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace field = vmx::field;
using x86::Gpr;

using VmmControl = Machine;

void debug(const Vcpu &vcpu, u32 control)
{
	kvm_guest_debug request{.control = control, .pad = 0, .arch = {}};
	ASSERT_EQ(vcpu.ioctl(KVM_SET_GUEST_DEBUG, &request), 0);
}

TEST_F(VmmControl, AStepOverAnInstructionThatExitsIsReported)
{
	const Guest32 guest;
	debug(guest.vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
	const auto program = [](Guest &g) {
		EXPECT_TRUE(g.get(field::guest_rflags) & X86_EFLAGS_TF);
		return g.cpuid(0);
	};
	ASSERT_EQ(guest.vcpu.run(program), 0);
	const kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_DEBUG});
	EXPECT_EQ(run.debug.arch.exception, 1u);
	EXPECT_EQ(run.debug.arch.pc, Guest32::code_address + 2);
	EXPECT_EQ(run.debug.arch.dr6, 0xffff4ff0u);
	EXPECT_FALSE(guest.vcpu.regs().rflags & X86_EFLAGS_TF);
}

TEST_F(VmmControl, AGuestThatLocksTheBus)
{
	const Guest32 quiet;
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, KVM_CAP_X86_BUS_LOCK_EXIT), 3);
	EXPECT_EQ(quiet.vcpu.run([](Guest &g) {
		EXPECT_FALSE(g.get(field::secondary_controls) & vmx::secondary::bus_lock_detection);
		return g.hlt();
	}),
		0);

	const Guest32 guest;
	kvm_enable_cap capability{};
	capability.cap = KVM_CAP_X86_BUS_LOCK_EXIT;
	for (const u64 wrong : {0, 3, 4}) {
		capability.args[0] = wrong;
		EXPECT_EQ(guest.vm.ioctl(KVM_ENABLE_CAP, &capability), -EINVAL);
	}
	capability.args[0] = KVM_BUS_LOCK_DETECTION_EXIT;
	ASSERT_EQ(guest.vm.ioctl(KVM_ENABLE_CAP, &capability), 0);
	EXPECT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_TRUE(g.get(field::secondary_controls) & vmx::secondary::bus_lock_detection);
		return GuestExit::of(vmx::ExitReason::bus_lock);
	}),
		0);
	const kvm_run &run = guest.vcpu.shared();
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_X86_BUS_LOCK});
	EXPECT_EQ(run.flags, u16{KVM_RUN_X86_BUS_LOCK});
	// Besides another exit, of which the VMM hears or does not.
	const auto besides = [](GuestExit exit) {
		exit.reason.raw |= 1 << 26;
		return exit;
	};
	EXPECT_EQ(guest.vcpu.run([&](Guest &g) { return besides(g.cpuid(0)); }), 0);
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_X86_BUS_LOCK});
	EXPECT_EQ(guest.vcpu.run([&](Guest &g) { return besides(g.out(0x80, 1, 0)); }), 0);
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(run.flags, u16{KVM_RUN_X86_BUS_LOCK});
	EXPECT_EQ(guest.vcpu.run([&](Guest &g) { return g.hlt(); }), 0);
	EXPECT_EQ(run.flags, 0);
}

TEST_F(VmmControl, AGuestThatKeepsInterruptsOut)
{
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, KVM_CAP_X86_NOTIFY_VMEXIT), 1);
	const auto enable = [](const Vm &vm, u64 argument) {
		kvm_enable_cap capability{};
		capability.cap = KVM_CAP_X86_NOTIFY_VMEXIT;
		capability.args[0] = argument;
		return vm.ioctl(KVM_ENABLE_CAP, &capability);
	};
	const Guest32 late;
	EXPECT_EQ(enable(late.vm, KVM_X86_NOTIFY_VMEXIT_ENABLED), -EINVAL);

	const Vm vm;
	for (const u64 wrong : {u64{0}, u64{KVM_X86_NOTIFY_VMEXIT_USER}, u64{KVM_X86_NOTIFY_VMEXIT_ENABLED | 4}})
		EXPECT_EQ(enable(vm, wrong), -EINVAL);
	ASSERT_EQ(enable(vm, u64{1234} << 32 | KVM_X86_NOTIFY_VMEXIT_ENABLED), 0);
	const Vcpu vcpu = vm.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	const auto notify = [](u64 qualification) {
		return [=](Guest &g) {
			EXPECT_TRUE(g.get(field::secondary_controls) & vmx::secondary::notify_exiting);
			EXPECT_EQ(g.get(field::notify_window), 1234u);
			return GuestExit::of(vmx::ExitReason::notify, qualification);
		};
	};
	// It goes on; IRET has unblocked NMIs, which do not come before it is executed again.
	EXPECT_EQ(vcpu.run(sim::in_turn({notify(1 << 12), [](Guest &g) {
						 EXPECT_TRUE(g.get(field::guest_interruptibility) & vmx::blocking::nmi);
						 return g.hlt();
					 }})),
		0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(vcpu.run(notify(1)), 0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_NOTIFY});
	EXPECT_EQ(vcpu.shared().notify.flags, u32{KVM_NOTIFY_CONTEXT_INVALID});

	const Vm told;
	ASSERT_EQ(enable(told, u64{1234} << 32 | KVM_X86_NOTIFY_VMEXIT_ENABLED | KVM_X86_NOTIFY_VMEXIT_USER), 0);
	const Vcpu other = told.create_vcpu();
	other.enter_protected_mode(0x1000);
	EXPECT_EQ(other.run(notify(0)), 0);
	EXPECT_EQ(other.shared().exit_reason, u32{KVM_EXIT_NOTIFY});
	EXPECT_EQ(other.shared().notify.flags, 0u);
}

TEST_F(VmmControl, BreakpointsInMemoryExit)
{
	const Guest32 guest;
	debug(guest.vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP);
	const auto program = [](Guest &g) {
		EXPECT_TRUE(g.get(field::exception_bitmap) & 1 << 3);
		GuestExit exit = GuestExit::of(vmx::ExitReason::exception_or_nmi, 0, 1);
		exit.event = vmx::EventInfo::of(vmx::EventType::software_exception, 3);
		return exit;
	};
	ASSERT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_DEBUG});
	EXPECT_EQ(guest.vcpu.shared().debug.arch.exception, 3u);
	debug(guest.vcpu, 0);
	const auto undisturbed = [](Guest &g) {
		EXPECT_FALSE(g.get(field::exception_bitmap) & 1 << 3);
		return g.hlt();
	};
	EXPECT_EQ(guest.vcpu.run(undisturbed), 0);
}

TEST_F(VmmControl, UnknownWaysOfDebuggingAreRefused)
{
	const Guest32 guest;
	kvm_guest_debug request{.control = 1u << 31, .pad = 0, .arch = {}};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_GUEST_DEBUG, &request), -EINVAL);
}

long enable(const Vm &vm, u32 capability, u64 argument)
{
	kvm_enable_cap request{.cap = capability, .flags = 0, .args = {argument}, .pad = {}};
	return vm.ioctl(KVM_ENABLE_CAP, &request);
}

TEST_F(VmmControl, UnknownMsrsGoToTheVmm)
{
	constexpr u32 unknown = 0x12345;
	const Guest32 guest;
	ASSERT_EQ(enable(guest.vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
	const auto program = sim::in_turn({
		[](Guest &g) { return g.rdmsr(unknown); },
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rax], 0x89abcdefu);
			EXPECT_EQ(g.gprs[Gpr::rdx], 0x1234567u);
			return g.wrmsr(unknown, 7);
		},
		[](Guest &g) {
			EXPECT_TRUE(g.delivered.has_value()); // #GP, as the VMM wanted
			return g.hlt();
		},
	});
	kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(guest.vcpu.run(program), 0);
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_X86_RDMSR});
	EXPECT_EQ(run.msr.index, unknown);
	EXPECT_EQ(run.msr.reason, u32{KVM_MSR_EXIT_REASON_UNKNOWN});
	run.msr.data = 0x0123456789abcdef;
	ASSERT_EQ(guest.vcpu.run(), 0);
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_X86_WRMSR});
	EXPECT_EQ(run.msr.data, 7u);
	run.msr.error = 1;
	ASSERT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(VmmControl, AFilterTakesMsrsAwayAgain)
{
	const Guest32 guest;
	u64 nothing = 0;
	kvm_msr_filter filter{};
	filter.ranges[0] = {.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
		.nmsrs = 1,
		.base = x86::msr::sysenter_cs,
		.bitmap = reinterpret_cast<u8 *>(&nothing)};
	sim::UserMemory page{1};
	std::memcpy(page.data(), &nothing, sizeof(nothing));
	filter.ranges[0].bitmap = page.data();
	ASSERT_EQ(guest.vm.ioctl(KVM_X86_SET_MSR_FILTER, &filter), 0);
	const auto program = sim::in_turn({
		[](Guest &g) { return g.rdmsr(x86::msr::sysenter_cs); },
		[](Guest &g) {
			EXPECT_TRUE(g.delivered.has_value());
			return g.rdmsr(x86::msr::sysenter_eip);
		},
		[](Guest &g) {
			EXPECT_FALSE(g.delivered.has_value());
			return g.hlt();
		},
	});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	kvm_msr_filter deny_all{.flags = KVM_MSR_FILTER_DEFAULT_DENY, .ranges = {}};
	EXPECT_EQ(guest.vm.ioctl(KVM_X86_SET_MSR_FILTER, &deny_all), -EINVAL);
}

TEST_F(VmmControl, RegistersAreExchangedThroughTheRunPage)
{
	const Guest32 guest;
	kvm_run &run = guest.vcpu.shared();
	run.kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	run.s.regs.regs = guest.vcpu.regs();
	run.s.regs.regs.rbx = 0xabc;
	run.kvm_dirty_regs = KVM_SYNC_X86_REGS;
	const auto program = [](Guest &g) {
		EXPECT_EQ(g.gprs[Gpr::rbx], 0xabcu);
		g.gprs[Gpr::rcx] = 0xdef;
		return g.hlt();
	};
	ASSERT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(run.s.regs.regs.rcx, 0xdefu);
	EXPECT_EQ(run.s.regs.regs.rip, Guest32::code_address + 1);
	EXPECT_TRUE(run.s.regs.sregs.cr0 & X86_CR0_PE);
	EXPECT_EQ(run.kvm_dirty_regs, 0u);
	run.kvm_valid_regs = 1 << 10;
	EXPECT_EQ(guest.vcpu.run(), -EINVAL);
}

TEST_F(VmmControl, AGuestsTscRunsAtAnotherRate)
{
	const Guest32 guest;
	const u32 host_khz = sim::Clock::tsc_khz;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_TSC_KHZ, u64{host_khz / 2}), 0);
	EXPECT_EQ(guest.vcpu.ioctl(KVM_GET_TSC_KHZ, 0ul), static_cast<long>(host_khz / 2));
	const u64 before = *guest.vcpu.msr(x86::msr::tsc);
	sim::clock().advance(1'000'000'000);
	EXPECT_EQ(*guest.vcpu.msr(x86::msr::tsc) - before, u64{host_khz} * 1000 / 2);
	const auto look = [](Guest &g) {
		EXPECT_EQ(g.get(field::tsc_multiplier), u64{1} << 47);
		return g.hlt();
	};
	EXPECT_EQ(guest.vcpu.run(look), 0);
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_TSC_KHZ, u64{1} << 32), -EINVAL);
}

TEST_F(VmmControl, MachineChecksOfTheVmmReachTheGuest)
{
	const Guest32 guest;
	u64 banks = 4 | 1 << 8;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_X86_SETUP_MCE, &banks), 0);
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.cr4 |= X86_CR4_MCE;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	constexpr u64 valid = u64{1} << 63, uncorrected = u64{1} << 61;
	kvm_x86_mce error{};
	error.status = valid | uncorrected | 0x134;
	error.addr = 0x5000;
	error.mcg_status = 5;
	error.bank = 9;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_X86_SET_MCE, &error), -EINVAL);
	error.bank = 1;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_X86_SET_MCE, &error), 0);
	const auto program = [](Guest &g) {
		EXPECT_TRUE(g.delivered.has_value());
		EXPECT_EQ(g.delivered->event.vector(), 18);
		return g.hlt();
	};
	ASSERT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.msr(x86::msr::mc0_ctl + 4 * 1 + 2), 0x5000u);
	EXPECT_EQ(guest.vcpu.msr(x86::msr::mcg_status), 5u);
	u64 too_many = 33;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_X86_SETUP_MCE, &too_many), -EINVAL);
}

// KVM_CAP_X86_DISABLE_EXITS.
constexpr long every_exit = KVM_X86_DISABLE_EXITS_MWAIT | KVM_X86_DISABLE_EXITS_HLT |
			    KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE;

TEST_F(VmmControl, AGuestThatHaltsByItself)
{
	namespace field = vmx::field;
	const Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const sim::UserMemory ram{16};
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	const long offered = vm.ioctl(KVM_CHECK_EXTENSION, long{KVM_CAP_X86_DISABLE_EXITS});
	EXPECT_EQ(offered, every_exit);
	kvm_enable_cap request{};
	request.cap = KVM_CAP_X86_DISABLE_EXITS;
	request.args[0] = ~static_cast<u64>(offered);
	EXPECT_EQ(vm.ioctl(KVM_ENABLE_CAP, &request), -EINVAL);
	request.args[0] = static_cast<u64>(offered);
	ASSERT_EQ(vm.ioctl(KVM_ENABLE_CAP, &request), 0);
	const Vcpu vcpu = vm.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	static constexpr u32 halted = 1;
	const auto halts = [](Guest &g) {
		g.set(field::guest_activity, halted);
		return GuestExit::of(vmx::ExitReason::external_interrupt);
	};
	const auto still_halted = [](Guest &g) {
		EXPECT_EQ(g.get(field::guest_activity), halted);
		EXPECT_FALSE(g.get(field::primary_controls) & vmx::primary::hlt_exiting);
		EXPECT_FALSE(g.get(field::secondary_controls) & vmx::secondary::pause_loop_exiting);
		return GuestExit::of(vmx::ExitReason::external_interrupt);
	};
	const auto goes_on = [](Guest &g) {
		EXPECT_EQ(g.get(field::guest_activity), 0u);
		return g.out(0x80, 1, 0);
	};
	EXPECT_EQ(vcpu.run(sim::in_turn({halts, [&](Guest &g) {
						 sim::this_thread().signal = true;
						 return still_halted(g);
					 }})),
		-EINTR);
	sim::this_thread().signal = false;
	ASSERT_EQ(vcpu.ioctl(KVM_NMI, 0), 0);
	ASSERT_EQ(vcpu.run(goes_on), 0);
	EXPECT_EQ(vcpu.run(sim::in_turn({halts, still_halted, [&](Guest &g) {
						 still_halted(g);
						 return g.out(0x80, 1, 0);
					 }})),
		0);
	// The VMM, or an event, has it go on.
	kvm_regs regs = vcpu.regs();
	ASSERT_EQ(vcpu.ioctl(KVM_SET_REGS, &regs), 0);
	EXPECT_EQ(vcpu.run(goes_on), 0);
}

TEST_F(VmmControl, AGuestThatWaitsByMwait)
{
	namespace field = vmx::field;
	constexpr u32 waiting = vmx::primary::mwait_exiting | vmx::primary::monitor_exiting;
	constexpr u32 residencies[] = {0x660, 0x3fc, 0x3fd, 0x3fe}; // of C1, C3, C6, C7
	for (const u64 given : {u64{0}, u64{KVM_X86_DISABLE_EXITS_MWAIT}, u64{KVM_X86_DISABLE_EXITS_CSTATE}}) {
		const Vm vm;
		const sim::UserMemory ram{16};
		ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
		kvm_enable_cap request{};
		request.cap = KVM_CAP_X86_DISABLE_EXITS;
		request.args[0] = given;
		ASSERT_EQ(vm.ioctl(KVM_ENABLE_CAP, &request), 0);
		const Vcpu vcpu = vm.create_vcpu();
		vcpu.enter_protected_mode(0x1000);
		EXPECT_EQ(vcpu.run([&](Guest &g) {
			EXPECT_EQ(g.get(field::primary_controls) & waiting,
				given == KVM_X86_DISABLE_EXITS_MWAIT ? 0u : waiting);
			for (const u64 index : residencies) {
				EXPECT_EQ(g.msr_exits(index, false), given != KVM_X86_DISABLE_EXITS_CSTATE);
				EXPECT_TRUE(g.msr_exits(index, true));
			}
			return GuestExit::of(vmx::ExitReason::triple_fault);
		}), 0);
	}
}

TEST_F(VmmControl, AHostThatMwaitDoesNotWakeKeepsItToItself)
{
	sim::set_mwait_usable(false);
	const Vm vm;
	kvm_enable_cap request{};
	request.cap = KVM_CAP_X86_DISABLE_EXITS;
	request.args[0] = KVM_X86_DISABLE_EXITS_MWAIT;
	EXPECT_EQ(vm.ioctl(KVM_ENABLE_CAP, &request), -EINVAL);
	EXPECT_EQ(vm.ioctl(KVM_CHECK_EXTENSION, long{KVM_CAP_X86_DISABLE_EXITS}),
		every_exit & ~KVM_X86_DISABLE_EXITS_MWAIT);
}

} // namespace
} // namespace kvmpp::tests
