// SPDX-License-Identifier: GPL-2.0-only
// State that a VMM reads, writes and looks through: each way in and out, and what it refuses.
#include <linux/kvm_para.h>
#include "tests/core/machine.h"
#include "x86/msr.h"
#include "x86/pvclock.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;

long enable(const Vm &vm, u32 capability)
{
	kvm_enable_cap request{};
	request.cap = capability;
	request.args[0] = 1;
	return vm.ioctl(KVM_ENABLE_CAP, &request);
}

long offers(const Vm &vm, long capability)
{
	return vm.ioctl(KVM_CHECK_EXTENSION, capability);
}

using State = Machine;

TEST_F(State, Sregs2HoldsThePdptes)
{
	const Guest32 guest;
	EXPECT_EQ(offers(guest.vm, KVM_CAP_SREGS2), 1);
	kvm_sregs2 sregs{};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_SREGS2, &sregs), 0);
	EXPECT_EQ(sregs.flags, 0u); // no PAE paging
	sregs.cr0 |= X86_CR0_PG;
	sregs.cr4 |= X86_CR4_PAE;
	sregs.cr3 = 0x8000;
	sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	sregs.pdptrs[0] = 0x9001;
	sregs.pdptrs[3] = 0xb001;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS2, &sregs), 0);
	EXPECT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_EQ(g.get(field::guest_pdpte0), 0x9001u);
		EXPECT_EQ(g.get(field::guest_pdpte3), 0xb001u);
		return to_vmm(g);
	}),
		0);
	kvm_sregs2 again{};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_SREGS2, &again), 0);
	EXPECT_EQ(again.flags, u64{KVM_SREGS2_FLAGS_PDPTRS_VALID});
	EXPECT_EQ(again.pdptrs[3], 0xb001u);
	sregs.pdptrs[1] = 3; // a reserved bit
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS2, &sregs), -EINVAL);
	sregs.flags = 2;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS2, &sregs), -EINVAL);
}

TEST_F(State, Xsave2IsAsLargeAsItSays)
{
	const Guest32 guest;
	EXPECT_EQ(offers(guest.vm, KVM_CAP_XSAVE2), long{sizeof(kvm_xsave)});
	kvm_xsave image{};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_XSAVE, &image), 0);
	image.region[6] = 0x1f00; // MXCSR
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_XSAVE, &image), 0);
	kvm_xsave again{};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_XSAVE2, &again), 0);
	EXPECT_EQ(again.region[6], 0x1f00u);
	EXPECT_EQ(guest.vcpu.ioctl(KVM_GET_XSAVE2, 0x10ul), -EFAULT);
}

TEST_F(State, AttributesOfTheTsc)
{
	const Guest32 guest;
	u64 offset = 0;
	const sim::UserArgument memory{&offset, sizeof offset};
	kvm_device_attr attribute{};
	attribute.group = KVM_VCPU_TSC_CTRL;
	attribute.attr = KVM_VCPU_TSC_OFFSET;
	attribute.addr = reinterpret_cast<u64>(&offset);
	EXPECT_EQ(offers(guest.vm, KVM_CAP_VCPU_ATTRIBUTES), 1);
	EXPECT_EQ(guest.vcpu.ioctl(KVM_HAS_DEVICE_ATTR, &attribute), 0);
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_DEVICE_ATTR, &attribute), 0);
	const u64 before = *guest.vcpu.msr(x86::msr::tsc);
	offset += 1'000'000;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_DEVICE_ATTR, &attribute), 0);
	EXPECT_EQ(*guest.vcpu.msr(x86::msr::tsc), before + 1'000'000); // the clock stands still
	attribute.addr = 0x10;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_GET_DEVICE_ATTR, &attribute), -EFAULT);
	attribute.attr = 1;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_HAS_DEVICE_ATTR, &attribute), -ENXIO);
	// And of the system: what of extended state guests can have.
	attribute = {};
	attribute.attr = KVM_X86_XCOMP_GUEST_SUPP;
	attribute.addr = reinterpret_cast<u64>(&offset);
	EXPECT_EQ(sim::system_ioctl(KVM_HAS_DEVICE_ATTR, &attribute), 0);
	EXPECT_EQ(sim::system_ioctl(KVM_GET_DEVICE_ATTR, &attribute), 0);
	attribute.group = 1;
	EXPECT_EQ(sim::system_ioctl(KVM_HAS_DEVICE_ATTR, &attribute), -ENXIO);
}

TEST_F(State, AGuestLearnsThatItWasStopped)
{
	constexpr u32 system_time = 0x4b564d01;
	constexpr u64 page = 0x3000, flags = 29;
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_KVMCLOCK_CTRL, 0), -EINVAL); // it has no clock
	ASSERT_EQ(guest.vcpu.set_msr(system_time, page | 1), 1);
	ASSERT_EQ(guest.vcpu.run(to_vmm), 0);
	EXPECT_FALSE(guest.ram.at<u8>(page + flags) & x86::PvclockTime::guest_stopped);
	ASSERT_EQ(guest.vcpu.ioctl(KVM_KVMCLOCK_CTRL, 0), 0);
	ASSERT_EQ(guest.vcpu.run(to_vmm), 0);
	EXPECT_TRUE(guest.ram.at<u8>(page + flags) & x86::PvclockTime::guest_stopped);
}

// All processors of a guest read the first one's page, and that one may be the last to run again.
TEST_F(State, AClockThatIsSetIsThereBeforeAnyoneRuns)
{
	constexpr u32 system_time = 0x4b564d01;
	constexpr u64 page = 0x3000;
	const Guest32 guest;
	ASSERT_EQ(guest.vcpu.set_msr(system_time, page | 1), 1);
	ASSERT_EQ(guest.vcpu.run(to_vmm), 0);
	const u32 version = guest.ram.at<x86::PvclockTime>(page).version;
	kvm_clock_data clock{};
	clock.clock = 123'456'789;
	ASSERT_EQ(guest.vm.ioctl(KVM_SET_CLOCK, &clock), 0);
	EXPECT_EQ(guest.ram.at<x86::PvclockTime>(page).system_time, 123'456'789u);
	EXPECT_EQ(guest.ram.at<x86::PvclockTime>(page).version, version + 2);
}

// What QEMU saves: it knows the old number alone, and its guest had no clock after a migration.
TEST_F(State, EitherNumberTellsWhereTheClockIs)
{
	constexpr u32 old_number = 0x12, number = 0x4b564d01;
	const Guest32 guest;
	for (u32 written : {old_number, number}) {
		const u64 value = 0x3001 + written % 2 * 0x1000;
		ASSERT_EQ(guest.vcpu.set_msr(written, value), 1);
		EXPECT_EQ(guest.vcpu.msr(old_number), value);
		EXPECT_EQ(guest.vcpu.msr(number), value);
	}
}

TEST_F(State, LookingThroughTheGuestsTables)
{
	const Guest32 guest;
	kvm_translation translation{};
	translation.linear_address = 0x1234;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_TRANSLATE, &translation), 0);
	EXPECT_TRUE(translation.valid);
	EXPECT_EQ(translation.physical_address, 0x1234u);
	guest.ram.at<u64>(0x8000) = 0x9007;
	guest.ram.at<u64>(0x9000) = 0x87;
	ASSERT_EQ(guest.vcpu.set_supported_cpuid(), 0);
	guest.vcpu.enter_long_mode(0x1000, 0x8000);
	ASSERT_EQ(guest.vcpu.ioctl(KVM_TRANSLATE, &translation), 0);
	EXPECT_TRUE(translation.valid && translation.writeable && translation.usermode);
	EXPECT_EQ(translation.physical_address, 0x1234u);
	EXPECT_EQ(guest.ram.at<u64>(0x9000), 0x87u) << "without a trace";
	translation.linear_address = 1ull << 31;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_TRANSLATE, &translation), 0);
	EXPECT_FALSE(translation.valid);
}

TEST_F(State, MachineChecksThatAreOffered)
{
	u64 capabilities = 0;
	EXPECT_EQ(sim::system_ioctl(KVM_X86_GET_MCE_CAP_SUPPORTED, &capabilities), 0);
	const Vm vm;
	EXPECT_EQ(offers(vm, KVM_CAP_MCE), 32);
	const Vcpu vcpu = vm.create_vcpu();
	u64 wanted = capabilities | 10;
	EXPECT_EQ(vcpu.ioctl(KVM_X86_SETUP_MCE, &wanted), 0);
	wanted = capabilities | 33; // CVE-2009-4004: more banks than there are
	EXPECT_EQ(vcpu.ioctl(KVM_X86_SETUP_MCE, &wanted), -EINVAL);
	wanted = ~capabilities << 16;
	EXPECT_EQ(vcpu.ioctl(KVM_X86_SETUP_MCE, &wanted), -EINVAL);
}

TEST_F(State, RegistersTravelWithTheRun)
{
	const Guest32 guest;
	const long all = offers(guest.vm, KVM_CAP_SYNC_REGS);
	EXPECT_EQ(all, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);
	kvm_run &run = guest.vcpu.shared();
	run.kvm_valid_regs = static_cast<u64>(all);
	ASSERT_EQ(guest.vcpu.run([](Guest &g) {
		g.gprs[Gpr::rbx] = 0x1111;
		return to_vmm(g);
	}),
		0);
	EXPECT_EQ(run.s.regs.regs.rbx, 0x1111u);
	EXPECT_EQ(run.s.regs.sregs.cr0, guest.vcpu.sregs().cr0);
	run.s.regs.regs.rbx = 0x2222;
	run.kvm_dirty_regs = KVM_SYNC_X86_REGS;
	ASSERT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_EQ(g.gprs[Gpr::rbx], 0x2222u);
		return to_vmm(g);
	}),
		0);
	EXPECT_EQ(run.kvm_dirty_regs, 0u);
	run.s.regs.sregs.cr0 = X86_CR0_PG; // no state of a processor
	run.kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	EXPECT_EQ(guest.vcpu.run(), -EINVAL);
	run.kvm_dirty_regs = 0;
	run.kvm_valid_regs = 1ull << 40;
	EXPECT_EQ(guest.vcpu.run(), -EINVAL);
}

TEST_F(State, ExceptionsThatWaitHaveTheirPayload)
{
	const Guest32 guest;
	ASSERT_EQ(enable(guest.vm, KVM_CAP_EXCEPTION_PAYLOAD), 0);
	kvm_vcpu_events events{};
	ASSERT_EQ(guest.vcpu.ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
	EXPECT_TRUE(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	events.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	events.exception = {.injected = 0, .nr = 14, .has_error_code = 1, .pending = 1, .error_code = 2};
	events.exception_has_payload = 1;
	events.exception_payload = 0xdead000;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	EXPECT_NE(guest.vcpu.sregs().cr2, 0xdead000u); // not before it is delivered
	ASSERT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_EQ(g.delivered->event.vector(), 14);
		return to_vmm(g);
	}),
		0);
	EXPECT_EQ(guest.vcpu.sregs().cr2, 0xdead000u);
	events.exception.injected = 1; // both at once
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), -EINVAL);
}

TEST_F(State, ATripleFaultThatWaits)
{
	const Guest32 guest;
	kvm_vcpu_events events{};
	events.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = 1;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), -EINVAL);
	ASSERT_EQ(enable(guest.vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT), 0);
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	ASSERT_EQ(guest.vcpu.run(to_vmm), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

TEST_F(State, AnInstructionThatNobodyKnowsGoesToTheVmmIfItWants)
{
	constexpr u64 device = 0xd0000000;
	const Guest32 guest;
	EXPECT_EQ(offers(guest.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE), 1);
	ASSERT_EQ(enable(guest.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE), 0);
	constexpr u8 addps[] = {0x0f, 0x58, 0x03};
	std::memcpy(guest.ram.data() + Guest32::code_address, addps, sizeof addps);
	ASSERT_EQ(guest.vcpu.run(sim::in_turn({[](Guest &g) {
		g.gprs[Gpr::rbx] = device;
		g.set(field::guest_rip, Guest32::code_address);
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, 0x182);
		exit.guest_physical = device;
		return exit;
	}, to_vmm})),
		0);
	kvm_run &run = guest.vcpu.shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
	EXPECT_EQ(run.emulation_failure.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
	EXPECT_TRUE(run.emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	EXPECT_EQ(std::memcmp(run.emulation_failure.insn_bytes, addps, sizeof addps), 0);
}

// --- the task priority of a guest that changes it all the time ------------------------------------

class TaskPriority : public Machine {
protected:
	// A processor that takes the accesses itself leaves nothing to report.
	TaskPriority() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		sim::set_apicv(0);
		load();
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		vcpu_ = vm_->create_vcpu();
		ASSERT_EQ(vcpu_.set_supported_cpuid(), 0);
		vcpu_.enter_protected_mode(Guest32::code_address);
	}
	void TearDown() override
	{
		vcpu_.close();
		vm_.reset();
		Machine::TearDown();
	}

	std::optional<Vm> vm_;
	const sim::UserMemory ram_{16};
	Vcpu vcpu_;
};

TEST_F(TaskPriority, ItsAccessesAreReportedToWhoPatchesThem)
{
	constexpr u64 tpr = 0xfee00080;
	EXPECT_EQ(vm_->ioctl(KVM_CHECK_EXTENSION, u64{KVM_CAP_VAPIC}), 1);
	kvm_tpr_access_ctl control{};
	control.enabled = 1;
	control.flags = 1;
	EXPECT_EQ(vcpu_.ioctl(KVM_TPR_ACCESS_REPORTING, &control), -EINVAL);
	control.flags = 0;
	ASSERT_EQ(vcpu_.ioctl(KVM_TPR_ACCESS_REPORTING, &control), 0);
	EXPECT_EQ(control.enabled, 0u); // what it was before
	const auto access = [&](std::initializer_list<u8> code, bool write) {
		std::copy(code.begin(), code.end(), ram_.data() + Guest32::code_address);
		EXPECT_EQ(vcpu_.run(sim::in_turn({[=](Guest &g) {
			g.gprs[Gpr::rbx] = tpr;
			g.gprs[Gpr::rax] = 0x30;
			g.set(field::guest_rip, Guest32::code_address);
			GuestExit exit = GuestExit::of(ExitReason::ept_violation, write ? 0x182 : 0x181);
			exit.guest_physical = tpr;
			return exit;
		}, to_vmm})),
			0);
		const kvm_run &run = vcpu_.shared();
		EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_TPR_ACCESS});
		EXPECT_EQ(run.tpr_access.is_write, u32{write});
		EXPECT_EQ(run.cr8, 3u);
	};
	access({0x89, 0x03}, true);
	access({0x8b, 0x03}, false);
}

TEST_F(TaskPriority, TheGuestAndTheModuleShareAWord)
{
	constexpr u64 word = 0x3000;
	kvm_vapic_addr request{.vapic_addr = word + 2};
	EXPECT_EQ(vcpu_.ioctl(KVM_SET_VAPIC_ADDR, &request), -EINVAL);
	request.vapic_addr = 0xd0000000;
	EXPECT_EQ(vcpu_.ioctl(KVM_SET_VAPIC_ADDR, &request), -EINVAL);
	request.vapic_addr = word;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VAPIC_ADDR, &request), 0);
	ASSERT_EQ(vcpu_.run([&](Guest &g) {
		ram_.at<u8>(word) = 0x50; // the patched guest's TPR
		return to_vmm(g);
	}),
		0);
	EXPECT_EQ(vcpu_.shared().cr8, 5u);
	// Its memory goes away.
	ASSERT_EQ(vm_->set_slot(0, 0, ram_.address(), 0), 0);
	EXPECT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_EQ(vcpu_.shared().cr8, 5u);
}

TEST_F(TaskPriority, WithoutALocalApicThereIsNothingToShare)
{
	const Guest32 guest;
	kvm_vapic_addr request{.vapic_addr = 0x3000};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_VAPIC_ADDR, &request), -EINVAL);
	kvm_tpr_access_ctl control{};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_TPR_ACCESS_REPORTING, &control), -EINVAL);
}

} // namespace
} // namespace kvmpp::tests
