// SPDX-License-Identifier: GPL-2.0-only
// System management mode: into it by an SMI, what is seen there, and back by RSM.
#include "tests/core/smm.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::EventType;
namespace field = vmx::field;
namespace msr = x86::msr;
using Cs = field::SegmentFields<x86::SegmentName::cs>;
using Ds = field::SegmentFields<x86::SegmentName::ds>;

TEST_F(Smm, ThereAndBack)
{
	kvm_regs regs = vcpu_.regs();
	regs.rbx = 0x1122334455667788;
	regs.r15 = 15;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_REGS, &regs), 0);
	const kvm_sregs sregs = vcpu_.sregs();
	u64 normal_tables = 0;
	ASSERT_EQ(vcpu_.run([&](Guest &g) {
		normal_tables = g.get(field::ept_pointer);
		return to_vmm(g);
	}),
		0);
	EXPECT_FALSE(in_smm());

	ASSERT_EQ(smi(), 0);
	EXPECT_TRUE(events().smi.pending);
	ASSERT_EQ(vcpu_.run([&](Guest &g) {
		EXPECT_EQ(g.get(field::guest_rip), smm::entry_point);
		EXPECT_EQ(g.get(field::guest_rflags), u64{X86_EFLAGS_FIXED});
		EXPECT_EQ(g.get(field::cr0_read_shadow) & (X86_CR0_PE | X86_CR0_PG | X86_CR0_TS), 0u);
		EXPECT_EQ(g.get(field::cr4_read_shadow), 0u);
		EXPECT_EQ(g.get(field::guest_dr7), 0x400u);
		EXPECT_EQ(g.get(Cs::selector), smm::default_base >> 4);
		EXPECT_EQ(g.get(Cs::base), smm::default_base);
		EXPECT_EQ(g.get(Ds::limit), 0xffffffffu);
		EXPECT_EQ(g.get(field::guest_interruptibility), vmx::blocking::nmi);
		EXPECT_NE(g.get(field::ept_pointer), normal_tables);
		return to_vmm(g);
	}),
		0);
	EXPECT_TRUE(in_smm());
	EXPECT_TRUE(events().smi.smm);
	EXPECT_FALSE(events().smi.pending);
	EXPECT_TRUE(events().nmi.masked);
	const auto saved = smm::load(area(), smm::Layout::wide);
	EXPECT_EQ(saved.gprs[x86::Gpr::rbx], 0x1122334455667788u);
	EXPECT_EQ(saved.gprs[x86::Gpr::rsp], regs.rsp);
	EXPECT_EQ(saved.rip, 0x1001u);
	EXPECT_EQ(saved.base, smm::default_base);

	// The handler uses every register.
	ASSERT_EQ(vcpu_.run(sim::in_turn({[](Guest &g) {
						  g.gprs = {};
						  return rsm(g);
					  },
			  [&](Guest &g) {
				  EXPECT_EQ(g.get(field::ept_pointer), normal_tables);
				  EXPECT_EQ(g.get(field::guest_rip), 0x1001u);
				  return to_vmm(g);
			  }})),
		0);
	EXPECT_FALSE(in_smm());
	EXPECT_FALSE(events().smi.smm);
	EXPECT_FALSE(events().nmi.masked);
	EXPECT_EQ(vcpu_.regs().rbx, 0x1122334455667788u);
	EXPECT_EQ(vcpu_.regs().r15, 15u);
	EXPECT_EQ(vcpu_.regs().rsp, regs.rsp);
	const kvm_sregs after = vcpu_.sregs();
	EXPECT_EQ(std::memcmp(&after, &sregs, sizeof(sregs)), 0);
}

TEST_F(Smm, OutsideOfItRsmIsUndefined)
{
	ram_.at<u16>(0x1000) = 0xaa0f;
	const auto at_rsm = [](Guest &g) {
		auto exit = rsm(g);
		g.set(field::guest_rip, 0x1000);
		return exit;
	};
	std::optional<sim::Delivered> delivered;
	ASSERT_EQ(vcpu_.run(sim::in_turn({at_rsm, [&](Guest &g) {
						  delivered = g.delivered;
						  return to_vmm(g);
					  }})),
		0);
	ASSERT_TRUE(delivered);
	EXPECT_EQ(delivered->event.vector(), 6);
}

TEST_F(Smm, LongModeComesBack)
{
	vcpu_.enter_long_mode(0xffffffff80001000, 0x4000);
	const kvm_sregs before = vcpu_.sregs();
	enter();
	EXPECT_EQ(vcpu_.sregs().efer, 0u);
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	const kvm_sregs after = vcpu_.sregs();
	EXPECT_EQ(after.efer, before.efer);
	EXPECT_EQ(after.cr0, before.cr0);
	EXPECT_EQ(after.cr3, 0x4000u);
	EXPECT_EQ(after.cs.l, 1);
	EXPECT_EQ(vcpu_.regs().rip, 0xffffffff80001001u);
}

TEST_F(Smm, AProcessorWithoutLongModeHasTheOtherLayout)
{
	auto table = supported_cpuid();
	for (unsigned i = 0; i < table->header.nent; ++i)
		if (table->entries[i].function == 0x80000001)
			table->entries[i].edx &= ~(1u << 29);
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_CPUID2, table.get()), 0);
	enter();
	u32 revision, base;
	std::memcpy(&revision, &area()[0xfc], sizeof(revision));
	std::memcpy(&base, &area()[0xf8], sizeof(base));
	EXPECT_EQ(revision, 0x00020000u);
	EXPECT_EQ(base, smm::default_base);
	patch<u32>(0x7ff0, 0x2000); // EIP
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_EQ(vcpu_.regs().rip, 0x2001u);
}

TEST_F(Smm, RsmMovesSmramAndEachSmiCounts)
{
	EXPECT_EQ(vcpu_.msr(msr::smbase), smm::default_base);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 0u);
	EXPECT_EQ(exit_after_rsm([&] { patch<u32>(0xff00, 0x34000); }), u32{KVM_EXIT_IO});
	EXPECT_EQ(vcpu_.msr(msr::smbase), 0x34000u);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 1u);
	ASSERT_EQ(smi(), 0);
	ASSERT_EQ(vcpu_.run([](Guest &g) {
		EXPECT_EQ(g.get(Cs::base), 0x34000u);
		EXPECT_EQ(g.get(Cs::selector), 0x3400);
		return to_vmm(g);
	}),
		0);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 2u);
}

TEST_F(Smm, WhoMayReadAndWriteSmbase)
{
	const auto faults = [&](auto access) {
		bool faulted = false;
		EXPECT_EQ(vcpu_.run(sim::in_turn({access, [&](Guest &g) {
							  faulted = g.delivered.has_value();
							  return to_vmm(g);
						  }})),
			0);
		return faulted;
	};
	const auto read = [](Guest &g) { return g.rdmsr(msr::smbase); };
	const auto write = [](Guest &g) { return g.wrmsr(msr::smbase, 0xa0000); };
	const auto count = [](Guest &g) { return g.wrmsr(msr::smi_count, 0); };
	EXPECT_TRUE(faults(read));
	EXPECT_TRUE(faults(write));
	EXPECT_TRUE(faults(count));
	EXPECT_FALSE(faults([](Guest &g) { return g.rdmsr(msr::smi_count); }));
	enter();
	EXPECT_FALSE(faults(read));
	EXPECT_EQ(vcpu_.regs().rax & 0xffffffff, 0u) << "that of the OUT";
	EXPECT_TRUE(faults(write));
	EXPECT_EQ(vcpu_.set_msr(msr::smbase, 0x50000), 1);
	EXPECT_EQ(vcpu_.msr(msr::smbase), 0x50000u);
	EXPECT_EQ(vcpu_.set_msr(msr::smbase, u64{1} << 32), 0);
	EXPECT_EQ(vcpu_.set_msr(msr::smi_count, 7), 1);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 7u);
}

TEST_F(Smm, ASecondSmiWaitsForRsm)
{
	enter();
	ASSERT_EQ(smi(), 0);
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_TRUE(events().smi.pending);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 1u);
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_TRUE(in_smm());
	EXPECT_FALSE(events().smi.pending);
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 2u);
}

TEST_F(Smm, RsmToAStateThatCannotBeShutsDown)
{
	const auto shuts_down = [&](auto spoil) {
		const u32 reason = exit_after_rsm(spoil);
		make(false);
		return reason == KVM_EXIT_SHUTDOWN;
	};
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xff58, X86_CR0_PG); }));	  // CR0
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xff58, bit(32) | X86_CR0_PE); }));
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xff48, bit(31)); }));		  // CR4
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xff48, X86_CR4_PCIDE); }));
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xff50, bit(60)); }));		  // CR3
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xfed0, bit(1)); }));		  // EFER
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xfe48, bit(60)); }));		  // FS
	EXPECT_TRUE(shuts_down([&] { patch<u64>(0xfe68, bit(60)); }));		  // GDTR
	// Real mode with a stack of ring 3; PAE paging whose tables are not there, or not tables.
	EXPECT_TRUE(shuts_down([&] {
		patch<u64>(0xff58, X86_CR0_ET);
		patch<u16>(0xfe22, 0x80f3);
	}));
	EXPECT_TRUE(shuts_down([&] {
		patch<u64>(0xff58, X86_CR0_PE | X86_CR0_PG);
		patch<u64>(0xff48, X86_CR4_PAE);
		patch<u64>(0xff50, 0x100000);
	}));
	EXPECT_TRUE(shuts_down([&] {
		patch<u64>(0xff58, X86_CR0_PE | X86_CR0_PG);
		patch<u64>(0xff48, X86_CR4_PAE);
		ram_.at<u64>(0x5000) = 0x7;
		patch<u64>(0xff50, 0x5000);
	}));
	// Where the state should be is nothing.
	EXPECT_TRUE(shuts_down([&] { EXPECT_EQ(vcpu_.set_msr(msr::smbase, 0x100000), 1); }));
	EXPECT_FALSE(shuts_down([&] { patch<u64>(0xff70, ~u64{X86_EFLAGS_VM | X86_EFLAGS_TF}); })) << "RFLAGS";
}

TEST_F(Smm, ProtectedModeThatTheProcessorCannotEnterGoesOnInSoftware)
{
	// A stack segment whose RPL is not the code segment's; hlt. Without an irqchip that goes to the VMM.
	ram_.at<u8>(0x1000) = 0xf4;
	enter();
	patch<u16>(0xfe20, 0x13);
	ASSERT_EQ(vcpu_.run(rsm), 0);
	EXPECT_EQ(vcpu_.shared().exit_reason, u32{KVM_EXIT_HLT});
	EXPECT_EQ(vcpu_.regs().rip, 0x1001u);
	EXPECT_EQ(vcpu_.sregs().ss.selector, 0x13);
}

TEST_F(Smm, AnEventUnderWayComesFirst)
{
	kvm_regs regs = vcpu_.regs();
	regs.rflags |= X86_EFLAGS_IF;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_REGS, &regs), 0);
	kvm_vcpu_events wanted = events();
	wanted.exception.injected = 1;
	wanted.exception.nr = 6;
	wanted.smi.pending = 1;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), 0);
	// The entry delivers the exception and is left before the handler's first instruction.
	ASSERT_EQ(vcpu_.run([](Guest &g) {
		EXPECT_FALSE(g.delivered);
		EXPECT_EQ(g.get(field::guest_rip), smm::entry_point);
		return to_vmm(g);
	}),
		0);
	EXPECT_TRUE(in_smm());
	EXPECT_FALSE(smm::load(area(), smm::Layout::wide).rflags & X86_EFLAGS_IF) << "in the exception's handler";
}

TEST_F(Smm, AnExceptionThatItsHandlerRaisesDoesNotCombine)
{
	enter();
	ASSERT_EQ(vcpu_.run(sim::in_turn({[](Guest &g) { return g.rdmsr(0x12345678); },
			  [](Guest &g) {
				  EXPECT_TRUE(g.delivered);
				  return rsm(g);
			  },
			  [](Guest &g) {
				  EXPECT_FALSE(g.delivered);
				  return to_vmm(g);
			  }})),
		0);
	EXPECT_FALSE(in_smm());
}

TEST_F(Smm, NmisWaitForRsm)
{
	enter();
	ASSERT_EQ(sim::ioctl(vcpu_.fd(), KVM_NMI), 0);
	bool delivered = false;
	ASSERT_EQ(vcpu_.run(sim::in_turn({[](Guest &g) {
						  EXPECT_FALSE(g.delivered);
						  return rsm(g);
					  },
			  [&](Guest &g) {
				  delivered = g.delivered && g.delivered->event.type() == EventType::nmi;
				  return to_vmm(g);
			  }})),
		0);
	EXPECT_TRUE(delivered);
	// Now in the handler of the NMI: it goes on with NMIs blocked.
	enter();
	EXPECT_TRUE(events().smi.smm_inside_nmi);
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_TRUE(events().nmi.masked);
	EXPECT_FALSE(events().smi.smm_inside_nmi);
}

TEST_F(Smm, AFailureOfTheHostChangesNothing)
{
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned) {
		if (!events().smi.smm) {
			EXPECT_EQ(smi(), 0);
		}
		const long result = vcpu_.run(to_vmm);
		if (result < 0) {
			EXPECT_EQ(result, -ENOMEM);
			EXPECT_EQ(vcpu_.msr(msr::smi_count), 0u);
			EXPECT_TRUE(events().smi.pending);
		}
	});
	EXPECT_TRUE(in_smm());
}

} // namespace
} // namespace kvmpp::tests
