// SPDX-License-Identifier: GPL-2.0-only
// A machine with interrupt chips, for tests of interrupts, on three kinds of processors.
#pragma once

#include "sim/cpu/model.h"
#include "tests/core/machine.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::tests
{

using vmx::EventInfo;
using vmx::EventType;
using vmx::ExitReason;
namespace field = vmx::field;
namespace msr = x86::msr;

// What the processor does of the local APIC by itself.
enum class ApicHelp { none, task_priority, delivery };

// A VM with all chips in the module and local APICs in x2APIC mode, enabled: on a processor that delivers interrupts by itself, on one with a TPR shadow alone, and on one with
// neither.
class Interrupts : public Machine, public testing::WithParamInterface<ApicHelp> {
protected:
	Interrupts() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		limit_help();
		load();
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		kvm_pit_config config{};
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_PIT2, &config), 0);
		for (u64 id = 0; id < 2; ++id) {
			vcpus_[id] = vm_->create_vcpu(id);
			ASSERT_EQ(vcpus_[id].ioctl(KVM_SET_CPUID2, supported_cpuid(true).get()), 0);
			vcpus_[id].enter_protected_mode(0x1000);
		}
		enable_apic(vcpus_[0]);
	}
	void TearDown() override
	{
		for (Vcpu &vcpu : vcpus_)
			vcpu.close();
		vm_.reset();
		Machine::TearDown();
	}

	static void limit_help()
	{
		const auto forbid = [](u32 index, u32 control) {
			sim::set_msr_everywhere(index, sim::cpu(0).msrs.at(index) & ~(u64{control} << 32));
		};
		if (GetParam() != ApicHelp::delivery)
			forbid(msr::vmx_secondary, vmx::secondary::virtual_interrupt_delivery);
		if (GetParam() == ApicHelp::none)
			forbid(msr::vmx_true_primary, vmx::primary::tpr_shadow);
	}
	static void enable_apic(const Vcpu &vcpu)
	{
		constexpr u64 x2apic = 1 << 10;
		ASSERT_EQ(vcpu.set_msr(msr::apic_base, *vcpu.msr(msr::apic_base) | x2apic), 1);
		ASSERT_EQ(vcpu.set_msr(0x80f, 0x1ff), 1);
		ASSERT_EQ(vcpu.set_msr(0x835, 0x10000), 1); // the PIC's output is masked
	}
	// Runs with interrupts on; what is delivered first.
	static std::optional<sim::Delivered> delivered_to(const Vcpu &vcpu, bool interrupts_on = true)
	{
		std::optional<sim::Delivered> result;
		unsigned entries = 0;
		const auto program = [&](Guest &g) {
			if (g.delivered)
				result = g.delivered;
			if (result || ++entries > 2)
				return GuestExit::of(ExitReason::triple_fault);
			if (interrupts_on)
				g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
			return GuestExit::of(ExitReason::external_interrupt);
		};
		EXPECT_EQ(vcpu.run(program), 0);
		return result;
	}
	// One that somebody wants to hear of.
	static GuestExit end_of_interrupt(Guest &g)
	{
		const auto exit = g.write_x2apic(0x80b, 0);
		EXPECT_TRUE(exit);
		return exit.value_or(GuestExit::of(ExitReason::triple_fault));
	}
	static sim::Delivered interrupt(u8 vector)
	{
		return {EventInfo::of(EventType::external_interrupt, vector), 0};
	}
	long send_msi(u8 vector, u32 destination = 0, u32 mode = 0) const
	{
		kvm_msi msi{};
		msi.address_lo = 0xfee00000 | destination << 12;
		msi.data = vector | mode << 8;
		return vm_->ioctl(KVM_SIGNAL_MSI, &msi);
	}
	long set_line(u32 gsi, u32 level) const
	{
		kvm_irq_level line{{gsi}, level};
		return vm_->ioctl(KVM_IRQ_LINE, &line);
	}
	// Sends a pin of the I/O APIC to vCPU 0, by the state that a VMM restores.
	void wire_pin(unsigned pin, u8 vector, bool level_triggered) const
	{
		kvm_irqchip chip{};
		chip.chip_id = KVM_IRQCHIP_IOAPIC;
		ASSERT_EQ(vm_->ioctl(KVM_GET_IRQCHIP, &chip), 0);
		chip.chip.ioapic.redirtbl[pin].bits = vector | (level_triggered ? 1 << 15 : 0);
		ASSERT_EQ(vm_->ioctl(KVM_SET_IRQCHIP, &chip), 0);
	}

	std::optional<Vm> vm_;
	Vcpu vcpus_[2];
};

inline const char *name_of(const testing::TestParamInfo<ApicHelp> &one)
{
	constexpr const char *names[] = {"Without", "TprShadow", "Delivery"};
	return names[static_cast<unsigned>(one.param)];
}

} // namespace kvmpp::tests
