// SPDX-License-Identifier: GPL-2.0-only
// The cache of the guest's registers: what is read once, what is written, and what is not.
#include <functional>
#include <gtest/gtest.h>
#include "host/task.h"
#include "sim/cpu/model.h"
#include "sim/host.h"
#include "sim/vtx/vmcs.h"
#include "vmx/engine.h"
#include "vmx/fields.h"
#include "vmx/guest_state.h"

namespace kvmpp::tests
{
namespace
{

using namespace vmx;
using x86::SegmentName;

class GuestStateTest : public testing::Test {
protected:
	void SetUp() override
	{
		sim::reset_machine();
		kernel_.emplace(0);
		engine_ = std::move(*Engine::create(Sharing::exclusive));
		ASSERT_TRUE(engine_->acquire());
		vmcs_ = std::move(*engine_->create_vmcs(0));
		host::PreemptionOff off;
		ASSERT_TRUE(engine_->load(*vmcs_));
		state_.initialize(current(), engine_->capabilities(), engine_->controls(),
			Gpa{0xfffbc000});
		state_.flush(current());
		state_.exited();
	}
	void TearDown() override
	{
		engine_->retire(*vmcs_);
		engine_->release();
		vmcs_ = nullptr;
		engine_ = nullptr;
		kernel_.reset();
	}

	Current current() { return engine_->current(*vmcs_); }
	// What the processor holds.
	sim::vtx::Vmcs &real() { return *sim::this_cpu().vtx.current; }
	sim::vtx::Counts cost(const std::function<void()> &action)
	{
		const auto before = sim::vtx::counts();
		action();
		return sim::vtx::counts() - before;
	}

	GuestState state_;

private:
	std::optional<sim::InKernel> kernel_;
	host::Own<Engine> engine_;
	host::Own<Vmcs> vmcs_;
};

TEST_F(GuestStateTest, ARegisterIsReadOnceForEachExit)
{
	real().set(field::guest_rip, 0x1000);
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rip(current()), 0x1000u); }).reads, 1u);
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rip(current()), 0x1000u); }).reads, 0u);
	state_.exited();
	real().set(field::guest_rip, 0x2000);
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rip(current()), 0x2000u); }).reads, 1u);
}

TEST_F(GuestStateTest, WhatIsSetIsWrittenAtTheFlushAndNothingElse)
{
	EXPECT_EQ(cost([&] { state_.flush(current()); }), sim::vtx::Counts{});
	state_.set_rip(0x1234);
	state_.set_rip(0x5678);
	const auto spent = cost([&] { state_.flush(current()); });
	EXPECT_EQ(spent.writes, 1u);
	EXPECT_EQ(spent.reads, 0u);
	EXPECT_EQ(real().get(field::guest_rip), 0x5678u);
	EXPECT_EQ(cost([&] { state_.flush(current()); }).writes, 0u);
}

TEST_F(GuestStateTest, WhatWasSetIsReadFromMemory)
{
	state_.set_rsp(0x42);
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rsp(current()), 0x42u); }).reads, 0u);
	EXPECT_EQ(cost([&] { state_.flush(current()); }).writes, 1u);
	const x86::Segment segment{0x10, 0xfffff, 0x4000, {0xc093}};
	state_.set_segment(SegmentName::fs, segment);
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.segment(current(), SegmentName::fs), segment); }).reads, 0u);
	EXPECT_EQ(cost([&] { state_.flush(current()); }).writes, 4u);
	EXPECT_EQ(real().get(field::SegmentFields<SegmentName::fs>::base), 0x4000u);
}

TEST_F(GuestStateTest, EverySegmentHasItsOwnFields)
{
	for (unsigned i = 0; i < x86::segment_count; ++i)
		state_.set_segment(static_cast<SegmentName>(i),
			{static_cast<u16>(i * 8), i + 1, u64{i} << 12, {0x93 + (i << 12)}});
	state_.flush(current());
	state_.exited();
	for (unsigned i = 0; i < x86::segment_count; ++i) {
		const auto name = static_cast<SegmentName>(i);
		const x86::Segment expected{static_cast<u16>(i * 8), i + 1, u64{i} << 12, {0x93 + (i << 12)}};
		// The parts alone cost one access each.
		EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rights(current(), name), expected.rights); }).reads, 1u);
		EXPECT_EQ(cost([&] { EXPECT_EQ(state_.segment_base(current(), name), expected.base); }).reads,
			1u);
		EXPECT_EQ(cost([&] { EXPECT_EQ(state_.segment(current(), name), expected); }).reads, 4u);
		EXPECT_EQ(cost([&] { EXPECT_EQ(state_.rights(current(), name), expected.rights); }).reads, 0u);
	}
}

TEST_F(GuestStateTest, ControlRegistersAreShownAsTheGuestSetThem)
{
	// Caching disabled is shown and not done; NE is always on in VMX operation.
	state_.set_cr0(X86_CR0_PE | X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
	state_.set_cr4(X86_CR4_PAE);
	state_.flush(current());
	EXPECT_EQ(real().get(field::cr0_read_shadow), X86_CR0_PE | X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
	EXPECT_EQ(real().get(field::guest_cr0) & (X86_CR0_CD | X86_CR0_NW), 0u);
	EXPECT_TRUE(real().get(field::guest_cr0) & X86_CR0_NE);
	EXPECT_TRUE(real().get(field::guest_cr4) & X86_CR4_VMXE);
	EXPECT_TRUE(real().get(field::guest_cr4) & X86_CR4_MCE);
	EXPECT_EQ(real().get(field::cr4_read_shadow), u64{X86_CR4_PAE});
	state_.exited();
	EXPECT_EQ(state_.cr0(current()), X86_CR0_PE | X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
	EXPECT_EQ(state_.cr4(current()), u64{X86_CR4_PAE});
}

TEST_F(GuestStateTest, BitsThatTheGuestOwnsComeFromTheProcessor)
{
	state_.own_cr4(X86_CR4_PGE | X86_CR4_DE | X86_CR4_SMEP);
	state_.set_cr0(X86_CR0_PE);
	state_.set_cr4(0);
	state_.flush(current());
	EXPECT_EQ(~real().get(field::cr4_guest_host_mask), u64{X86_CR4_PGE | X86_CR4_DE});
	state_.exited();
	real().set(field::guest_cr0, real().get(field::guest_cr0) | X86_CR0_TS);
	real().set(field::guest_cr4, real().get(field::guest_cr4) | X86_CR4_PGE);
	EXPECT_EQ(state_.cr0(current()), u64{X86_CR0_PE | X86_CR0_TS});
	EXPECT_EQ(state_.cr4(current()), u64{X86_CR4_PGE});
}

TEST_F(GuestStateTest, TheEntryControlFollowsLongMode)
{
	state_.set_efer(x86::efer::lme | x86::efer::lma);
	state_.flush(current());
	EXPECT_TRUE(real().get(field::entry_controls) & entry_control::ia32e_guest);
	state_.set_efer(x86::efer::lme);
	state_.flush(current());
	EXPECT_FALSE(real().get(field::entry_controls) & entry_control::ia32e_guest);
	state_.exited();
	EXPECT_EQ(cost([&] { EXPECT_EQ(state_.efer(), x86::efer::lme); }).reads, 0u);
}

TEST_F(GuestStateTest, TheRestOfTheRegistersComeBack)
{
	state_.set_cr3(0x5000);
	state_.set_pat(0x0606060606060606);
	state_.set_pdptes({1, 0x1001, 0x2001, 0x3001});
	state_.set_gdt({0x8000, 0x7f});
	state_.set_idt({0x9000, 0xfff});
	state_.set_sysenter({8, 0x100, 0x200});
	state_.set_dr7(0x401);
	state_.set_rflags(X86_EFLAGS_IF);
	state_.flush(current());
	state_.exited();
	EXPECT_EQ(state_.cr3(current()), 0x5000u);
	EXPECT_EQ(real().get(field::guest_pat), 0x0606060606060606u);
	EXPECT_EQ(state_.pdptes(current()), (std::array<u64, 4>{1, 0x1001, 0x2001, 0x3001}));
	EXPECT_EQ(state_.gdt(current()), (x86::DescriptorTable{0x8000, 0x7f}));
	EXPECT_EQ(state_.idt(current()), (x86::DescriptorTable{0x9000, 0xfff}));
	EXPECT_EQ(state_.sysenter(current()).eip, 0x200u);
	EXPECT_EQ(real().get(field::guest_dr7), 0x401u);
	EXPECT_EQ(state_.rflags(current()), u64{X86_EFLAGS_IF | X86_EFLAGS_FIXED});
}

TEST_F(GuestStateTest, AnInstructionThatPassesEndsBlockingByStiWhenSomebodyLooks)
{
	real().set(field::guest_interruptibility, blocking::sti | blocking::nmi);
	EXPECT_EQ(cost([&] { state_.instruction_passed(); }), sim::vtx::Counts{});
	EXPECT_EQ(state_.interruptibility(current()), blocking::nmi);
	EXPECT_EQ(cost([&] { state_.flush(current()); }).writes, 1u);
	EXPECT_EQ(real().get(field::guest_interruptibility), blocking::nmi);

	// Known already: no look is needed.
	state_.exited();
	real().set(field::guest_interruptibility, blocking::mov_ss);
	EXPECT_EQ(state_.interruptibility(current()), blocking::mov_ss);
	state_.instruction_passed();
	EXPECT_EQ(state_.interruptibility(current()), 0u);

	// Nobody looks: nothing is written.
	state_.flush(current());
	state_.exited();
	state_.instruction_passed();
	EXPECT_EQ(cost([&] { state_.flush(current()); }), sim::vtx::Counts{});
}

TEST_F(GuestStateTest, BlockingByStiGoesWithTheInterruptFlag)
{
	real().set(field::guest_interruptibility, blocking::sti);
	state_.set_rflags(0);
	state_.flush(current());
	EXPECT_EQ(real().get(field::guest_interruptibility), 0u);
}

TEST_F(GuestStateTest, AControlWordThatStaysIsNotWritten)
{
	Shadowed<decltype(field::primary_controls)> word;
	EXPECT_EQ(cost([&] { word.initialize(current(), 5); }).writes, 1u);
	EXPECT_EQ(cost([&] { word.set(current(), 5); }).writes, 0u);
	EXPECT_EQ(cost([&] { word.set_bits(current(), 4, true); }).writes, 0u);
	EXPECT_EQ(cost([&] { word.set_bits(current(), 4, false); }).writes, 1u);
	EXPECT_EQ(word.get(), 1u);
	EXPECT_EQ(real().get(field::primary_controls), 1u);
}

} // namespace
} // namespace kvmpp::tests
