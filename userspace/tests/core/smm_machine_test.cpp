// SPDX-License-Identifier: GPL-2.0-only
// System management mode and the machine around it: its own address space, who sends SMIs, what it holds up.
#include "tests/core/smm.h"
#include "sim/clock.h"
#include "sim/cpu/task.h"
#include "x86/msr.h"
#include "x86/pvclock.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
namespace field = vmx::field;
namespace msr = x86::msr;

class SmmMachine : public Smm {
protected:
	// The byte that the guest finds; nothing: no memory there.
	std::optional<u8> sees(u64 address) const
	{
		std::optional<u8> found;
		EXPECT_EQ(vcpu_.run([&](Guest &g) -> GuestExit {
			u8 value;
			if (const auto exit = g.read(address, &value, 1))
				return *exit;
			found = value;
			return to_vmm(g);
		}),
			0);
		return found;
	}
	long write(u64 address) const
	{
		return vcpu_.run([=](Guest &g) -> GuestExit {
			const u8 value = 0x77;
			if (const auto exit = g.write(address, &value, 1))
				return *exit;
			return to_vmm(g);
		});
	}
	u64 dirty_pages(u32 slot) const
	{
		u64 bitmap = 0;
		const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
		kvm_dirty_log log{};
		log.slot = slot;
		log.dirty_bitmap = &bitmap;
		EXPECT_EQ(vm_->ioctl(KVM_GET_DIRTY_LOG, &log), 0);
		return bitmap;
	}
	void enable_apic() const
	{
		constexpr u64 x2apic = 1 << 10;
		ASSERT_EQ(vcpu_.set_msr(msr::apic_base, *vcpu_.msr(msr::apic_base) | x2apic), 1);
		ASSERT_EQ(vcpu_.set_msr(0x80f, 0x1ff), 1);
		ASSERT_EQ(vcpu_.set_msr(0x835, 0x10000), 1);
	}
	kvm_mp_state mp_state() const
	{
		kvm_mp_state state{};
		EXPECT_EQ(vcpu_.ioctl(KVM_GET_MP_STATE, &state), 0);
		return state;
	}
	static constexpr u32 smi_mode = 2, nmi_mode = 4, init_mode = 5;
};

TEST_F(SmmMachine, WhichAddressSpaceThereIs)
{
	EXPECT_EQ(vm_->set_slot(2 << 16, 0x100000, ram_), -EINVAL);
	EXPECT_EQ(vm_->set_slot(smm_slot | 32764, 0x100000, ram_), -EINVAL);
	// Slots of the same number, and of the same place.
	EXPECT_EQ(vm_->set_slot(smm_slot | 1, 0, ram_), 0);
	EXPECT_EQ(vm_->set_slot(smm_slot | 2, 0x1000, ram_), -EEXIST);
	EXPECT_EQ(vm_->set_slot(1, smm::default_base, ram_), 0);
	EXPECT_EQ(vm_->set_slot(smm_slot | 1, 0, ram_.address(), 0), 0);
	EXPECT_EQ(vm_->set_slot(smm_slot | 1, 0, ram_.address(), 0), -EINVAL) << "there is none";
	kvm_dirty_log log{};
	log.slot = 2 << 16;
	EXPECT_EQ(vm_->ioctl(KVM_GET_DIRTY_LOG, &log), -EINVAL);
	log.slot = smm_slot;
	EXPECT_EQ(vm_->ioctl(KVM_GET_DIRTY_LOG, &log), -ENOENT);
}

TEST_F(SmmMachine, NobodySeesTheOtherMemory)
{
	ASSERT_EQ(vm_->set_slot(smm_slot | 1, 0x2000, smram_.address() + 0x2000, page_size), 0);
	ram_.at<u8>(0x2000) = 1;
	smram_.at<u8>(0x2000) = 2;
	EXPECT_EQ(sees(0x2000), 1);
	EXPECT_EQ(sees(smm::default_base), std::nullopt);
	make(false);
	ASSERT_EQ(vm_->set_slot(smm_slot | 1, 0x2000, smram_.address() + 0x2000, page_size), 0);
	enter();
	EXPECT_EQ(sees(0x2000), 2);
	EXPECT_TRUE(sees(smm::default_base));
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_EQ(sees(0x2000), 1);
	EXPECT_EQ(sees(smm::default_base), std::nullopt);
}

TEST_F(SmmMachine, ChangesOfTheVmmsMemoryReachBoth)
{
	enter();
	EXPECT_TRUE(sees(smm::default_base));
	EXPECT_TRUE(smram_.young(0, 1, true));
	smram_.change(0, 1, sim::PageState::unmapped);
	EXPECT_EQ(vcpu_.run([](Guest &g) -> GuestExit {
		u8 value;
		const auto exit = g.read(smm::default_base, &value, 1);
		return exit ? *exit : to_vmm(g);
	}),
		-EFAULT);
	smram_.change(0, 1, sim::PageState::mapped);
	EXPECT_TRUE(sees(smm::default_base));
	// The slot goes while its pages are mapped.
	ASSERT_EQ(vm_->set_slot(smm_slot, smm::default_base, smram_.address(), 0), 0);
	EXPECT_EQ(sees(smm::default_base), std::nullopt);
}

TEST_F(SmmMachine, ItsSlotsAreLoggedAndProtected)
{
	ASSERT_EQ(vm_->set_slot(smm_slot, smm::default_base, smram_, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(vm_->set_slot(0, 0, ram_, KVM_MEM_LOG_DIRTY_PAGES), 0);
	enter();
	EXPECT_EQ(dirty_pages(smm_slot), bit(15)) << "the saved state";
	EXPECT_EQ(write(smm::default_base + 0x3000), 0);
	EXPECT_EQ(dirty_pages(smm_slot), bit(3));
	EXPECT_EQ(dirty_pages(smm_slot), 0u);
	EXPECT_EQ(write(smm::default_base + 0x3000), 0);
	EXPECT_EQ(dirty_pages(smm_slot), bit(3)) << "written again";
	EXPECT_EQ(dirty_pages(0), 0u);
	u64 bitmap = bit(3);
	const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
	EXPECT_EQ(write(smm::default_base + 0x3000), 0);
	kvm_clear_dirty_log clear{};
	clear.slot = smm_slot;
	clear.num_pages = 16;
	clear.dirty_bitmap = &bitmap;
	EXPECT_EQ(vm_->ioctl(KVM_CLEAR_DIRTY_LOG, &clear), 0);
	EXPECT_EQ(dirty_pages(smm_slot), 0u);
	// A ROM there: a write is the VMM's.
	sim::UserMemory rom{1};
	ASSERT_EQ(vm_->set_slot(smm_slot | 1, 0x80000, rom, KVM_MEM_READONLY), 0);
	rom.at<u32>(0) = 0xf4; // what the handler executes
	EXPECT_EQ(rom.at<u8>(0), 0xf4);
	EXPECT_EQ(sees(0x80000), 0xf4);
}

TEST_F(SmmMachine, WithoutSlotsItIsEmpty)
{
	ASSERT_EQ(vm_->set_slot(smm_slot, smm::default_base, smram_.address(), 0), 0);
	ASSERT_EQ(smi(), 0);
	ASSERT_EQ(vcpu_.run([](Guest &g) -> GuestExit {
		u8 value;
		const auto exit = g.read(smm::default_base + smm::entry_point, &value, 1);
		return exit ? *exit : to_vmm(g);
	}),
		0);
	EXPECT_TRUE(in_smm());
	EXPECT_EQ(vcpu_.shared().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
}

TEST_F(SmmMachine, ParavirtualPagesAreTheOperatingSystems)
{
	constexpr u32 system_time = 0x4b564d01;
	ASSERT_EQ(vm_->set_slot(smm_slot | 1, 0x3000, smram_.address(), page_size), 0);
	enter();
	ASSERT_EQ(vcpu_.set_msr(system_time, 0x3001), 1);
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_NE(ram_.at<x86::PvclockTime>(0x3000).version, 0u);
	EXPECT_EQ(smram_.at<x86::PvclockTime>(0).version, 0u);
}

TEST_F(SmmMachine, SmisByTheApic)
{
	make(true);
	enable_apic();
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_EQ(send_msi(smi_mode), 1);
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_TRUE(in_smm());
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_FALSE(in_smm());
	// To itself, by ICR; the instruction is complete.
	bool entered = false;
	ASSERT_EQ(vcpu_.run(sim::in_turn({[](Guest &g) { return g.wrmsr(0x830, 0x44200); },
			  [&](Guest &g) {
				  entered = g.get(field::guest_rip) == smm::entry_point;
				  return to_vmm(g);
			  }})),
		0);
	EXPECT_TRUE(entered);
	EXPECT_TRUE(in_smm());
	EXPECT_EQ(vcpu_.msr(msr::smi_count), 2u);
}

TEST_F(SmmMachine, AnInitWaitsForRsm)
{
	make(true);
	enable_apic();
	enter();
	EXPECT_EQ(send_msi(init_mode), 1);
	EXPECT_TRUE(events().smi.latched_init) << "before the vCPU has seen it";
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_TRUE(in_smm());
	kvm_vcpu_events saved = events();
	EXPECT_TRUE(saved.smi.latched_init);
	// Saved and restored, it is still there.
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &saved), 0);
	EXPECT_TRUE(events().smi.latched_init);
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, [](Guest &g) {
						  EXPECT_EQ(g.get(field::guest_rip), 0xfff0u);
						  return to_vmm(g);
					  }})),
		0);
	EXPECT_FALSE(in_smm());
	EXPECT_FALSE(events().smi.latched_init);
	EXPECT_EQ(vcpu_.msr(msr::smbase), smm::default_base);
	// A VMM takes it back.
	enter();
	EXPECT_EQ(send_msi(init_mode), 1);
	saved = events();
	saved.smi.latched_init = 0;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &saved), 0);
	EXPECT_FALSE(events().smi.latched_init);
}

TEST_F(SmmMachine, AHaltedProcessorHaltsAgain)
{
	make(true);
	enable_apic();
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	const auto halt = [&] {
		kvm_mp_state halted{.mp_state = KVM_MP_STATE_HALTED};
		EXPECT_EQ(vcpu_.ioctl(KVM_SET_MP_STATE, &halted), 0);
	};
	halt();
	enter();
	EXPECT_EQ(mp_state().mp_state, u32{KVM_MP_STATE_RUNNABLE});
	EXPECT_TRUE(smm::load(area(), smm::Layout::wide).halted);
	ASSERT_EQ(vcpu_.run([](Guest &g) {
		sim::this_thread().signal = true;
		return rsm(g);
	}),
		-EINTR);
	sim::this_thread().signal = false;
	EXPECT_EQ(mp_state().mp_state, u32{KVM_MP_STATE_HALTED});
	// The handler may have it go on behind the HLT.
	enter();
	patch<u8>(0xfec9, 0);
	ASSERT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
	EXPECT_FALSE(in_smm());
	EXPECT_EQ(mp_state().mp_state, u32{KVM_MP_STATE_RUNNABLE});
}

// In software no processor watches the deadline, and no timer of the host's is set.
TEST_F(SmmMachine, ADeadlineIsSeenInSoftwareToo)
{
	make(true);
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_CPUID2, supported_cpuid(true).get()), 0);
	enable_apic();
	ASSERT_EQ(vcpu_.set_msr(0x832, 1 << 18 | 0x70), 1);
	ASSERT_EQ(vcpu_.set_msr(msr::tsc_deadline, *vcpu_.msr(msr::tsc) + 1'000'000), 1);
	// Segments that no entry takes; in al, 0x80; out 0x81, al
	ram_.at<u32>(0x1000) = 0x81e680e4;
	enter();
	patch<u16>(0xfe20, 0x13);
	ASSERT_EQ(vcpu_.run(rsm), 0);
	ASSERT_EQ(vcpu_.shared().exit_reason, u32{KVM_EXIT_IO});
	sim::clock().advance(10'000'000);
	ASSERT_EQ(vcpu_.run(), 0);
	ASSERT_EQ(vcpu_.shared().io.port, 0x81);
	auto lapic = std::make_unique<kvm_lapic_state>();
	ASSERT_EQ(vcpu_.ioctl(KVM_GET_LAPIC, lapic.get()), 0);
	EXPECT_EQ(lapic->regs[0x232], 1) << "requested: 0x70";
	EXPECT_EQ(vcpu_.msr(msr::tsc_deadline), 0u);
}

TEST_F(SmmMachine, WhatAVmmMaySet)
{
	make(true);
	kvm_vcpu_events wanted = events();
	EXPECT_TRUE(wanted.flags & KVM_VCPUEVENT_VALID_SMM);
	// Into SMM and out of it without an SMI: only the mode changes.
	wanted.smi.smm = 1;
	wanted.smi.smm_inside_nmi = 1;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), 0);
	ASSERT_EQ(vcpu_.run(to_vmm), 0);
	EXPECT_TRUE(in_smm());
	EXPECT_EQ(vcpu_.regs().rip, 0x1001u) << "behind the OUT";
	EXPECT_TRUE(events().smi.smm_inside_nmi);
	// Without the flag the mode is left alone.
	wanted.smi.smm = 0;
	wanted.flags &= ~u32{KVM_VCPUEVENT_VALID_SMM};
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), 0);
	EXPECT_TRUE(events().smi.smm);
	kvm_mp_state waits{.mp_state = KVM_MP_STATE_INIT_RECEIVED};
	EXPECT_EQ(vcpu_.ioctl(KVM_SET_MP_STATE, &waits), -EINVAL);
	wanted.flags |= KVM_VCPUEVENT_VALID_SMM;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), 0);
	EXPECT_FALSE(events().smi.smm);
	EXPECT_FALSE(events().smi.smm_inside_nmi);
	// A processor that waits for its SIPI has no SMM.
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_MP_STATE, &waits), 0);
	wanted.smi.pending = 1;
	EXPECT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), -EINVAL);
	wanted.smi.pending = 0;
	wanted.smi.smm = 1;
	EXPECT_EQ(vcpu_.ioctl(KVM_SET_VCPU_EVENTS, &wanted), -EINVAL);
	EXPECT_FALSE(events().smi.smm);
}

} // namespace
} // namespace kvmpp::tests
