// SPDX-License-Identifier: GPL-2.0-only
// What a guest reads and writes in its local APIC's registers, with the exits that it takes.
#include "tests/core/apic_access.h"

namespace kvmpp::tests
{
namespace
{

class ApicRegisters : public ApicAccess {};

TEST_P(ApicRegisters, Reads)
{
	warm_up(vcpus_[0]);
	ASSERT_EQ(send_msi(0x45), 1);
	ASSERT_EQ(taken_by(vcpus_[0]), 0x45);
	ASSERT_EQ(send_msi(0x46), 1);
	for (const u32 offset : {0x20, 0x30, 0xd0, 0xe0, 0xf0, 0x120, 0x1a0, 0x220, 0x280, 0x300, 0x310, 0x320, 0x330,
		     0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0}) {
		EXPECT_EQ(read(vcpus_[0], offset, exits_of_read()), get_register(vcpus_[0], offset)) << offset;
	}
	EXPECT_EQ(read(vcpus_[0], 0x120, exits_of_read()), 1u << 5);
	EXPECT_EQ(read(vcpus_[0], 0x220, exits_of_read()), 1u << 6);
	// TPR needs nothing but its shadow.
	set_register(vcpus_[0], 0x80, 0x23);
	EXPECT_EQ(read(vcpus_[0], 0x80, takes_accesses() ? Exits{} : exits_of_others()), 0x23u);
	// The page does not know these.
	EXPECT_EQ(read(vcpus_[0], 0xa0, exits_of_others()), 0x40u);
	EXPECT_EQ(read(vcpus_[0], 0x90, exits_of_others()), 0u);
	EXPECT_EQ(read(vcpus_[0], 0x2f0, exits_of_others()), 0u);
	// Nor is a read of two registers one of either.
	EXPECT_EQ(read(vcpus_[0], 0xf2, exits_of_others()), 0u);
}

TEST_P(ApicRegisters, TheTimerCounts)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x3e0, 0xb, exits_of_write()); // by 1
	write(vcpus_[0], 0x320, 0x10000, exits_of_write());
	write(vcpus_[0], 0x380, 1'000'000, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 1'000'000u);
	sim::clock().advance(400'000);
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 600'000u);
	EXPECT_EQ(read(vcpus_[0], 0x380, exits_of_read()), 1'000'000u);
	// A deadline knows no count.
	write(vcpus_[0], 0x320, 0x50000, exits_of_write());
	write(vcpus_[0], 0x380, 5, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 0u);
	EXPECT_NE(read(vcpus_[0], 0x380, exits_of_read()), 5u);
}

TEST_P(ApicRegisters, Writes)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x320, 0xffffffff & ~0x10000u, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[0], 0x320), 0x600ffu); // no bits that are not there
	// Software disable masks all entries.
	write(vcpus_[0], 0xf0, 0xfffff0ff, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0xf0, exits_of_read()), 0xffu);
	EXPECT_TRUE(get_register(vcpus_[0], 0x320) & 0x10000);
	write(vcpus_[0], 0x370, 0x33, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x370, exits_of_read()), 0x10033u);
	write(vcpus_[0], 0xf0, 0x1ff, exits_of_write());
	write(vcpus_[0], 0x370, 0x33, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x370, exits_of_read()), 0x33u);
	write(vcpus_[0], 0xe0, 0x0fffffff, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0xe0, exits_of_read()), 0x0fffffffu);
	// An illegal vector is an error, and ESR shows it once.
	write(vcpus_[0], 0x310, 0xabcdef12, has_registers() ? Exits{} : exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x310, exits_of_read()), 0xab000000u);
	write(vcpus_[0], 0x300, 0x44005,
		GetParam() == ApicLevel::accesses ? Exits{ExitReason::apic_access} : exits_of_write());
	write(vcpus_[0], 0x280, 0x1234, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x280, exits_of_read()), 1u << 5);
	write(vcpus_[0], 0x280, 0, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x280, exits_of_read()), 0u);
	// What cannot be written.
	for (const u32 offset : {0x30u, 0x90u, 0xa0u, 0x100u, 0x200u, 0x390u}) {
		const u32 before = get_register(vcpus_[0], offset);
		write(vcpus_[0], offset, 0xffffffff, exits_of_others());
		EXPECT_EQ(get_register(vcpus_[0], offset), before) << offset;
	}
}

TEST_P(ApicRegisters, AnInterruptEnds)
{
	warm_up(vcpus_[0]);
	for (const u32 any : {0u, 0xffffffffu}) {
		ASSERT_EQ(send_msi(0x45), 1);
		ASSERT_EQ(taken_by(vcpus_[0]), 0x45);
		EXPECT_TRUE(in_service(vcpus_[0], 0x45));
		write(vcpus_[0], 0xb0, any, GetParam() == ApicLevel::delivery ? Exits{} : exits_of_write());
		EXPECT_FALSE(in_service(vcpus_[0], 0x45));
		EXPECT_EQ(get_register(vcpus_[0], 0xb0), 0u);
	}
}

TEST_P(ApicRegisters, Ipis)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x310, 1 << 24, has_registers() ? Exits{} : exits_of_others());
	write(vcpus_[0], 0x300, 0x4077, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[1], 0x230), 1u << 0x17);
	EXPECT_EQ(read(vcpus_[0], 0x300, exits_of_read()), 0x4077u);
	write(vcpus_[0], 0x300, 0x40078, GetParam() == ApicLevel::delivery ? Exits{} : exits_of_write());
	EXPECT_EQ(taken_by(vcpus_[0]), 0x78);
	// The INIT of one that waits for its start.
	write(vcpus_[0], 0x300, 0x4500, exits_of_write());
	write(vcpus_[0], 0x300, 0x4604, exits_of_write());
	EXPECT_EQ(vcpus_[1].run([](Guest &) { return GuestExit::of(ExitReason::triple_fault); }), 0);
	EXPECT_EQ(vcpus_[1].sregs().cs.base, 0x4000u);
	// Its mode has survived, and the page with it.
	vcpus_[1].enter_protected_mode(code);
	EXPECT_EQ(read(vcpus_[1], 0x20, exits_of_read()), 1u << 24);
}

TEST_P(ApicRegisters, TheTaskPriorityHoldsAnInterruptBack)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x80, 0xffffff50, takes_accesses() ? Exits{} : exits_of_others());
	EXPECT_EQ(vcpus_[0].shared().cr8, 5u);
	EXPECT_EQ(get_register(vcpus_[0], 0x80), 0x50u);
	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_FALSE(taken_by(vcpus_[0]));
	const bool threshold = GetParam() == ApicLevel::accesses || GetParam() == ApicLevel::registers;
	write(vcpus_[0], 0x80, 0x30,
		threshold ? Exits{ExitReason::tpr_below_threshold} : takes_accesses() ? Exits{} : exits_of_others());
	EXPECT_EQ(taken_by(vcpus_[0]), 0x45);
}

// A word of the VMM's stands for TPR, which is looked at with each exit.
TEST_P(ApicRegisters, ATaskPriorityInMemory)
{
	warm_up(vcpus_[0]);
	kvm_vapic_addr request{.vapic_addr = 0x3000};
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_VAPIC_ADDR, &request), 0);
	write(vcpus_[0], 0x80, 0x30, {ExitReason::ept_violation});
	EXPECT_EQ(get_register(vcpus_[0], 0x80), 0x30u);
	request.vapic_addr = 0;
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_VAPIC_ADDR, &request), 0);
	warm_up(vcpus_[0]);
	// Accesses that do not exit are no affair of the VMM's either.
	EXPECT_EQ(vm_->ioctl(KVM_CHECK_EXTENSION, u64{KVM_CAP_VAPIC}), takes_accesses() ? 0 : 1);
}

INSTANTIATE_TEST_SUITE_P(Processors, ApicRegisters,
	testing::Values(ApicLevel::nothing, ApicLevel::accesses, ApicLevel::registers, ApicLevel::delivery),
	[](const auto &one) { return name_of(one); });

} // namespace
} // namespace kvmpp::tests
