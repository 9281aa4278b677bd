// SPDX-License-Identifier: GPL-2.0-only
// A machine whose guest has SMRAM, and what its handler does.
#pragma once

#include "tests/core/machine.h"
#include "x86/smm.h"

namespace kvmpp::tests
{

namespace smm = x86::smm;

inline constexpr u32 smm_slot = 1 << 16;

// RSM at the handler's beginning: the processor does not know it there.
inline GuestExit rsm(Guest &g)
{
	g.set(vmx::field::guest_rip, smm::entry_point);
	auto exit = GuestExit::of(vmx::ExitReason::exception_or_nmi, 0, 2);
	exit.event = vmx::EventInfo::of(vmx::EventType::hardware_exception, 6);
	return exit;
}

class Smm : public Machine {
protected:
	void SetUp() override
	{
		Machine::SetUp();
		make(false);
	}
	void TearDown() override
	{
		vcpu_.close();
		vm_.reset();
		Machine::TearDown();
	}

	// RAM from 0 on, and SMRAM where SMBASE is at reset, which only SMM sees.
	void make(bool chips)
	{
		vcpu_.close();
		vm_.emplace();
		if (chips) {
			ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		}
		vcpu_ = vm_->create_vcpu();
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		ASSERT_EQ(vm_->set_slot(smm_slot, smm::default_base, smram_), 0);
		ASSERT_EQ(vcpu_.set_supported_cpuid(), 0);
		vcpu_.enter_protected_mode(0x1000);
		smram_.at<u16>(smm::entry_point) = 0xaa0f; // rsm
	}
	kvm_vcpu_events events() const
	{
		kvm_vcpu_events events{};
		EXPECT_EQ(vcpu_.ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
		return events;
	}
	long smi() const { return sim::ioctl(vcpu_.fd(), KVM_SMI); }
	bool in_smm() const { return vcpu_.shared().flags & KVM_RUN_X86_SMM; }
	smm::Area &area() const { return smram_.at<smm::Area>(smm::area_offset); }
	// Changes what RSM will load.
	template <class T>
	void patch(u32 offset, T value) const
	{
		std::memcpy(&area()[offset % smm::area_size], &value, sizeof(T));
	}
	void enter() const
	{
		ASSERT_EQ(smi(), 0);
		ASSERT_EQ(vcpu_.run(to_vmm), 0);
		ASSERT_TRUE(in_smm());
	}
	// Enters, lets `change` spoil the saved state, and leaves.
	template <class Change>
	u32 exit_after_rsm(Change change)
	{
		enter();
		change();
		EXPECT_EQ(vcpu_.run(sim::in_turn({rsm, to_vmm})), 0);
		return vcpu_.shared().exit_reason;
	}
	long send_msi(u32 mode) const
	{
		kvm_msi msi{};
		msi.address_lo = 0xfee00000;
		msi.data = mode << 8;
		return vm_->ioctl(KVM_SIGNAL_MSI, &msi);
	}

	std::optional<Vm> vm_;
	sim::UserMemory ram_{16}, smram_{16};
	Vcpu vcpu_;
};

} // namespace kvmpp::tests
