// SPDX-License-Identifier: GPL-2.0-only
// What is done around entries and exits against speculation, where the host has it on.
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
namespace msr = x86::msr;

using Speculation = Machine;

// Like kvm_intel: after what may have read somebody's secrets, and not for exits that touch none.
TEST_F(Speculation, TheL1DataCacheIsFlushedAfterOthersRan)
{
	unload();
	sim::set_mitigations(KVMPP_L1TF_FLUSH_COND | KVMPP_L1TF_FLUSH_MSR);
	load();
	const auto flushes = [] {
		u64 sum = 0;
		for (unsigned i = 0; i < sim::cpu_limit; ++i)
			sum += sim::cpu(i).counts.l1d_flushes;
		return sum;
	};
	const Guest32 guest;
	u64 before = 0;
	const auto access = [](u64 address) {
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, 1 | 3 << 7);
		exit.guest_physical = address;
		return exit;
	};
	EXPECT_EQ(guest.vcpu.run(sim::in_turn({
			  [&](Guest &) {
				  before = flushes();
				  EXPECT_GT(before, 0u); // the VMM ran
				  return GuestExit::of(ExitReason::external_interrupt);
			  },
			  [&](Guest &) { EXPECT_EQ(flushes(), before); return access(0x3000); },
			  [&](Guest &g) { EXPECT_EQ(flushes(), before); return g.wrmsr(msr::misc_enable, 0); },
			  [&](Guest &) {
				  EXPECT_EQ(flushes(), before);
				  return GuestExit::of(ExitReason::triple_fault);
			  },
		  })),
		0);

	unsigned rounds = 0, moves = 0;
	const sim::Cpu *last = nullptr;
	sim::preempt_every(7);
	EXPECT_EQ(guest.vcpu.run([&](Guest &g) {
		if (last && last != &g.cpu) {
			++moves;
			EXPECT_GT(flushes(), before);
		}
		last = &g.cpu;
		before = flushes();
		return GuestExit::of(++rounds < 200 ? ExitReason::external_interrupt : ExitReason::triple_fault);
	}), 0);
	sim::preempt_every(0);
	EXPECT_GT(moves, 0u);
}

TEST_F(Speculation, SpeculationControlsAreTheGuestsWhileItRuns)
{
	unload();
	sim::set_mitigations(KVMPP_SPEC_CTRL | KVMPP_IBPB_ON_SWITCH | KVMPP_IBPB_ON_USER_EXIT |
			     KVMPP_L1TF_FLUSH_COND | KVMPP_L1TF_FLUSH_MSR);
	load();
	const Guest32 guest;
	const auto program = sim::in_turn({[](Guest &g) { return g.wrmsr(msr::spec_ctrl, 1); },
		[](Guest &g) {
			EXPECT_EQ(g.cpu.msrs.at(msr::spec_ctrl), 1u);
			EXPECT_GT(g.cpu.counts.l1d_flushes, 0u);
			g.cpu.msrs[msr::spec_ctrl] = 5; // without an exit from now on
			return g.wrmsr(msr::pred_cmd, 1);
		},
		[](Guest &g) {
			EXPECT_EQ(g.cpu.msrs.at(msr::spec_ctrl), 5u);
			EXPECT_GT(g.cpu.counts.branch_barriers, 1u);
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.msr(msr::spec_ctrl), 5u);
}

} // namespace
} // namespace kvmpp::tests
