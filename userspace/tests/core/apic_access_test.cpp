// SPDX-License-Identifier: GPL-2.0-only
// The page that stands for the local APIC's registers: who finds it, and what goes wrong there.
#include "tests/core/apic_access.h"

namespace kvmpp::tests
{
namespace
{

class ApicPage : public ApicAccess {};
// On those processors that take accesses at all, or with the registers.
class ApicPageTaken : public ApicAccess {};
class ApicPageRead : public ApicAccess {};

// A vCPU in another mode must not find memory there, so nobody finds the page.
TEST_P(ApicPage, ModesThatDiffer)
{
	warm_up(vcpus_[0]);
	constexpr u64 x2apic = 1 << 10, enabled = 1 << 11;
	const u64 base = *vcpus_[1].msr(msr::apic_base);
	for (const u64 other : {base | x2apic, base & ~enabled, base - page_size}) {
		SCOPED_TRACE(other);
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, other), 1);
		EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}) & 0xff, 0x14u);
		EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}) & 0xff, 0x14u);
		vcpus_[1].enter_protected_mode(code);
		// Where its registers are elsewhere there is a device of the VMM's; else there is nothing.
		EXPECT_EQ(vcpus_[1].run([&](Guest &g) {
			if (g.get(field::guest_rip) == behind)
				return GuestExit::of(ExitReason::triple_fault);
			const auto exit = move(g, apic + 0x30, true);
			EXPECT_TRUE(exit && exit->reason.basic() == ExitReason::ept_violation);
			return exit.value_or(GuestExit::of(ExitReason::triple_fault));
		}),
			0);
		const bool elsewhere = other < apic;
		EXPECT_EQ(vcpus_[1].shared().exit_reason, elsewhere ? u32{KVM_EXIT_MMIO} : u32{KVM_EXIT_SHUTDOWN});
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base & ~enabled), 1);
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base), 1);
		warm_up(vcpus_[0]);
		set_register(vcpus_[1], 0xf0, 0x1ff);
		EXPECT_EQ(read(vcpus_[1], 0xf0, exits_of_read()), 0x1ffu);
	}
}

TEST_P(ApicPage, ABaseElsewhereIsEmulated)
{
	warm_up(vcpus_[0]);
	constexpr u32 elsewhere = apic - page_size;
	ASSERT_EQ(vcpus_[0].set_msr(msr::apic_base, elsewhere | 0x900), 1);
	Exits exits;
	EXPECT_EQ(execute(vcpus_[0], elsewhere + 0x30, true, 0, exits) & 0xff, 0x14u);
	EXPECT_EQ(exits, Exits{ExitReason::ept_violation});
	// What is there now is the VMM's.
	EXPECT_EQ(vcpus_[0].run([&](Guest &g) { return *move(g, apic + 0x30, true); }), 0);
	EXPECT_EQ(vcpus_[0].shared().exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_EQ(vcpus_[0].shared().mmio.phys_addr, u64{apic} + 0x30);
}

TEST_P(ApicPage, MemoryOfTheVmmComesBeforeIt)
{
	const sim::UserMemory memory{3};
	memory.at<u32>(page_size + 0x30) = 0x12345678;
	warm_up(vcpus_[0]);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	EXPECT_EQ(read(vcpus_[0], 0x30, {}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory.address(), 0), 0);
	warm_up(vcpus_[0]);
	// A ROM: reads are its own, and writes go to what there is beside it.
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory, KVM_MEM_READONLY), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	write(vcpus_[0], 0x80, 0x20, {ExitReason::ept_violation});
	EXPECT_EQ(read(vcpus_[0], 0x30, {}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory.address(), 0), 0);
	warm_up(vcpus_[0]);
	// One that moves there.
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, exits_of_read()) & 0xff, 0x14u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory), 0);
	warm_up(vcpus_[0]);
	// The last of its pages being taken back is not the APIC's affair.
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory.address(), 0), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, exits_of_read()) & 0xff, 0x14u);
}

// SMM has tables of its own, and finds the page in them; nor does it when others must not.
TEST_P(ApicPageRead, InSystemManagementMode)
{
	const sim::UserMemory smram{16};
	ASSERT_EQ(vm_->set_slot(1 << 16, 0x30000, smram), 0);
	warm_up(vcpus_[0]);
	const auto read_version = [&](bool shown) {
		unsigned entries = 0;
		EXPECT_EQ(vcpus_[0].run([&](Guest &g) {
			u32 version = 0;
			const auto exit = g.read(apic + 0x30, &version, sizeof(version));
			EXPECT_EQ(exit.has_value(), !shown || entries == 0);
			EXPECT_TRUE(exit || (version & 0xff) == 0x14);
			return ++entries == 1 && shown && exit ? *exit : GuestExit::of(ExitReason::triple_fault);
		}),
			0);
		EXPECT_TRUE(vcpus_[0].shared().flags & KVM_RUN_X86_SMM);
	};
	ASSERT_EQ(sim::ioctl(vcpus_[0].fd(), KVM_SMI), 0);
	read_version(true);
	const u64 base = *vcpus_[1].msr(msr::apic_base);
	ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base | 1 << 10), 1);
	read_version(false);
}

// An operation that exits behind its write to the page leaves there what the guest wrote, and the module does not
// hear of it.
TEST_P(ApicPageRead, ValuesThatNobodyHasLookedAt)
{
	warm_up(vcpus_[0]);
	for (const u32 value : {0xffffffffu, 0xfff8ffffu, 0u, 0x700u, 0x40400u}) {
		EXPECT_EQ(vcpus_[0].run([&](Guest &g) {
			for (const u32 offset : {0x20, 0xd0, 0xe0, 0xf0, 0x280, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380,
				     0x3e0}) {
				EXPECT_TRUE(g.write(apic + offset, &value, sizeof(value)));
			}
			return GuestExit::of(ExitReason::triple_fault);
		}),
			0);
		for (const u32 level : {1u, 0u}) {
			kvm_irq_level line{{2}, level};
			EXPECT_EQ(vm_->ioctl(KVM_IRQ_LINE, &line), 0);
		}
		EXPECT_EQ(sim::ioctl(vcpus_[0].fd(), KVM_NMI), 0);
		sim::clock().advance(1'000'000'000);
		send_msi(0x45);
		(void)taken_by(vcpus_[0]);
		(void)state(vcpus_[0]);
	}
	// The next write puts one right.
	write(vcpus_[0], 0xf0, 0x1ff, exits_of_write());
	write(vcpus_[0], 0x320, 0xfffc00fe, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[0], 0x320), 0x400feu);
}

// The stack is in the APIC: nothing that a guest does, but the event must not be lost.
TEST_P(ApicPageTaken, AnEventThatItsDeliveryLeadsThere)
{
	warm_up(vcpus_[0]);
	ASSERT_EQ(vcpus_[0].run([](Guest &) {
		GuestExit exit = GuestExit::of(ExitReason::apic_access, 3 << 12 | 0x84);
		exit.vectoring = EventInfo::of(EventType::external_interrupt, 0x45);
		return exit;
	}),
		0);
	kvm_run &run = vcpus_[0].shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
	EXPECT_EQ(run.internal.suberror, u32{KVM_INTERNAL_ERROR_DELIVERY_EV});
	EXPECT_EQ(run.internal.data[3], u64{apic} + 0x84);
	kvm_vcpu_events events{};
	ASSERT_EQ(vcpus_[0].ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
	EXPECT_TRUE(events.interrupt.injected);
	EXPECT_EQ(events.interrupt.nr, 0x45);
}

// Neither the first access nor a change of mode may go wrong for want of memory.
TEST_P(ApicPage, MemoryIsShort)
{
	Exits exits;
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned) {
		bool begun = false;
		const long result = vcpus_[0].run([&](Guest &g) {
			if (std::exchange(begun, true) && g.get(field::guest_rip) == behind)
				return GuestExit::of(ExitReason::triple_fault);
			return move(g, apic + 0x30, true).value_or(GuestExit::of(ExitReason::triple_fault));
		});
		EXPECT_TRUE(result == 0 || result == -ENOMEM) << result;
	});
	EXPECT_EQ(vcpus_[0].regs().rax & 0xff, 0x14u);
}

constexpr auto name = [](const auto &one) { return name_of(one); };
INSTANTIATE_TEST_SUITE_P(Processors, ApicPage,
	testing::Values(ApicLevel::nothing, ApicLevel::accesses, ApicLevel::registers, ApicLevel::delivery), name);
INSTANTIATE_TEST_SUITE_P(Processors, ApicPageTaken,
	testing::Values(ApicLevel::accesses, ApicLevel::registers, ApicLevel::delivery), name);
INSTANTIATE_TEST_SUITE_P(
	Processors, ApicPageRead, testing::Values(ApicLevel::registers, ApicLevel::delivery), name);

} // namespace
} // namespace kvmpp::tests
