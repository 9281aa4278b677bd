// SPDX-License-Identifier: GPL-2.0-only
// What a guest is told of its processor's absence.
#include <asm/kvm_para.h>
#include "sim/vtx/processor.h"
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

constexpr u64 place = 0x3000;

class StealTime : public Machine {
protected:
	void SetUp() override
	{
		Machine::SetUp();
		sim::this_thread().impatient = true; // a sleep without end is a signal
		sim::this_thread().run_delay = 1000;
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		vcpu_ = vm_->create_vcpu();
		vcpu_.enter_protected_mode(0x1000);
		told().preempted = KVM_VCPU_PREEMPTED; // an earlier kernel's
	}
	void TearDown() override
	{
		sim::preempt_every(0);
		sim::this_thread().impatient = false;
		vcpu_.close();
		vm_.reset();
		Machine::TearDown();
	}

	kvm_steal_time &told() { return ram_.at<kvm_steal_time>(place); }
	void enable(u64 address = place)
	{
		ASSERT_EQ(vcpu_.run(sim::in_turn({[=](Guest &g) { return g.wrmsr(MSR_KVM_STEAL_TIME, address | 1); },
				  to_vmm})),
			0);
	}
	// The guest halts, and its thread with it, until the signal. Then it is set going again.
	void halt()
	{
		ASSERT_EQ(vcpu_.run([](Guest &g) { return g.hlt(); }), -EINTR);
		sim::this_thread().signal = false;
		kvm_mp_state state{.mp_state = KVM_MP_STATE_RUNNABLE};
		ASSERT_EQ(vcpu_.ioctl(KVM_SET_MP_STATE, &state), 0);
	}
	// How many instructions of VT-x that are neither VMREAD, VMWRITE nor an entry it took to run it.
	u64 others_of_a_run()
	{
		const u64 before = sim::vtx::counts().others;
		EXPECT_EQ(vcpu_.run(to_vmm), 0);
		return sim::vtx::counts().others - before;
	}

	std::optional<Vm> vm_;
	const sim::UserMemory ram_{16};
	Vcpu vcpu_;
};

TEST_F(StealTime, IsToldWhenTheProcessorComesBack)
{
	enable();
	EXPECT_EQ(told().preempted, 0u);
	EXPECT_EQ(told().steal, 0u);
	const u32 version = told().version;
	EXPECT_NE(version, 0u);
	EXPECT_FALSE(version & 1);
	halt();
	EXPECT_EQ(told().preempted, u8{KVM_VCPU_PREEMPTED});
	EXPECT_EQ(told().steal, 0u);
	sim::this_thread().run_delay = 6000;
	ASSERT_EQ(vcpu_.run([this, version](Guest &g) {
		EXPECT_EQ(told().preempted, 0u);
		EXPECT_EQ(told().steal, 5000u);
		EXPECT_EQ(told().version, version + 2);
		return to_vmm(g);
	}),
		0);
	// Without a sleep of the guest, too: the VMM waited.
	sim::this_thread().run_delay = 6500;
	EXPECT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_EQ(told().steal, 5500u);
	// Another thread of the VMM has waited less.
	sim::this_thread().run_delay = 10;
	halt();
	EXPECT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_EQ(told().steal, 5500u);
}

TEST_F(StealTime, AFlushThatOthersRelyOn)
{
	enable();
	halt();
	const u64 without = others_of_a_run();
	halt();
	told().preempted |= KVM_VCPU_FLUSH_TLB;
	EXPECT_EQ(others_of_a_run(), without + 1);
	EXPECT_EQ(told().preempted, 0u);
	// The mark stands while the thread comes and goes without the guest.
	halt();
	told().preempted |= KVM_VCPU_FLUSH_TLB;
	kvm_mp_state halted{.mp_state = KVM_MP_STATE_HALTED};
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_MP_STATE, &halted), 0);
	halt();
	EXPECT_TRUE(told().preempted & KVM_VCPU_PREEMPTED);
}

// CVE-2022-39189: a processor whose instruction is being emulated uses translations, so nobody may take
// a flush of them for granted.
TEST_F(StealTime, Cve_2022_39189_NoMarkWithinAnInstruction)
{
	enable();
	sim::preempt_every(11);
	unsigned exits = 0;
	ASSERT_EQ(vcpu_.run([&](Guest &g) {
		EXPECT_EQ(told().preempted, 0u);
		return ++exits < 50 ? g.cpuid(exits) : to_vmm(g);
	}),
		0);
	EXPECT_EQ(told().preempted, 0u);
	EXPECT_EQ(exits, 50u);
}

TEST_F(StealTime, AtAnImpossiblePlace)
{
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_STEAL_TIME, place | 3), 0);
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_STEAL_TIME, place | 1), 1);
	EXPECT_EQ(vcpu_.msr(MSR_KVM_STEAL_TIME), place | 1);
	for (const u64 address : {0xd0000000ull, ~0x3full, 0xffc0ull}) {
		enable(address);
		halt();
		EXPECT_EQ(vcpu_.run(to_vmm), 0);
	}
	// The slot goes while it is registered.
	enable();
	ASSERT_EQ(vm_->set_slot(0, 0, ram_.address(), 0), 0);
	halt();
	EXPECT_EQ(vcpu_.run(to_vmm), 0);
}

} // namespace
} // namespace kvmpp::tests
