// SPDX-License-Identifier: GPL-2.0-only
// The machine's own life under VMs: CPUs that come and go, shutdown, crash, another hypervisor.
#include <thread>
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

using Power = Machine;

TEST_F(Power, ACpuGoesDownAndComesUpUnderAVm)
{
	const Guest32 guest;
	for (unsigned number = 0; number < sim::cpu_limit; ++number) {
		EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
		sim::take_down(number);
		EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit - 1);
		EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
		EXPECT_EQ(sim::bring_up(number), 0);
		EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	}
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Power, AShutdownTakesVtxFromRunningVms)
{
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
	{
		sim::InKernel kernel;
		kvmpp_shutdown();
	}
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_EQ(guest.vcpu.run(), -EIO);
	EXPECT_EQ(sim::system_ioctl(KVM_CREATE_VM), -EIO);
}

TEST_F(Power, ACrashLeavesVmxOperationOnEachCpu)
{
	refusals_expected_ = true;
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
	for (unsigned number = 0; number < sim::cpu_limit; ++number) {
		sim::InKernel kernel{number};
		kvmpp_cpu_emergency();
	}
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_EQ(sim::vtx::active_vmcss(), 0u);
}

class OnDemand : public Machine {
protected:
	OnDemand() : Machine{false} {}
};

TEST_F(OnDemand, VtxIsHeldWhileAVcpuIsLoadedAndNoLonger)
{
	const Guest32 guest;
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_EQ(sim::vtx::processors_on(), 1u);
		return g.hlt();
	}),
		0);
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_EQ(guest.vcpu.regs().rip, Guest32::code_address + 1);
	sim::preempt_every(3);
	EXPECT_EQ(guest.vcpu.run(sim::in_turn({[](Guest &g) { return g.cpuid(0); },
			  [](Guest &g) { return g.hlt(); }})),
		0);
	sim::preempt_every(0);
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
}

TEST_F(OnDemand, AnotherHypervisorsTurn)
{
	const Guest32 guest;
	constexpr u64 vmxe = 1 << 13;
	for (unsigned number = 0; number < sim::cpu_limit; ++number)
		sim::cpu(number).cr4 |= vmxe;
	// Time must pass for the patience to end.
	std::atomic<bool> stop{false};
	std::thread time{[&] {
		while (!stop)
			sim::clock().advance(1'000'000);
	}};
	EXPECT_EQ(guest.vcpu.run(), -EBUSY);
	stop = true;
	time.join();
	for (unsigned number = 0; number < sim::cpu_limit; ++number)
		sim::cpu(number).cr4 &= ~vmxe;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
}

} // namespace
} // namespace kvmpp::tests
