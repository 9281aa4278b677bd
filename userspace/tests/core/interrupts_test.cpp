// SPDX-License-Identifier: GPL-2.0-only
// Interrupts from the VMM to the guest and back: lines, messages, eventfds, processors among themselves.
#include "tests/core/interrupts.h"

namespace kvmpp::tests
{
namespace
{

TEST_P(Interrupts, AMessageReachesItsProcessor)
{
	EXPECT_EQ(send_msi(0x45), 1);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
	// Nobody has that ID.
	EXPECT_LE(send_msi(0x45, 7), 0);
}

TEST_P(Interrupts, WithInterruptsOffItWaits)
{
	EXPECT_EQ(send_msi(0x45), 1);
	EXPECT_FALSE(delivered_to(vcpus_[0], false));
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
}

TEST_P(Interrupts, AnNmiNeedsNoFlag)
{
	EXPECT_EQ(send_msi(0, 0, 4), 1);
	EXPECT_EQ(delivered_to(vcpus_[0], false), (sim::Delivered{EventInfo::of(EventType::nmi, 2), 0}));
	EXPECT_EQ(sim::ioctl(vcpus_[0].fd(), KVM_NMI), 0);
	kvm_vcpu_events events{};
	EXPECT_EQ(vcpus_[0].ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
	// The first is being handled.
	EXPECT_TRUE(events.nmi.masked);
	EXPECT_EQ(events.nmi.pending, 1);
}

TEST_P(Interrupts, ALineGoesThroughTheIoapic)
{
	wire_pin(10, 0x50, false);
	EXPECT_EQ(set_line(10, 1), 0);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x50));
}

TEST_P(Interrupts, ThePicReachesTheBootProcessor)
{
	// ICW1 to ICW4, then the mask, by the guest itself; LINT0 lets the PIC through.
	ASSERT_EQ(vcpus_[0].set_msr(0x835, 0x700), 1);
	const auto out = [](u16 port, u8 value) {
		return [=](Guest &g) { return g.out(port, 1, value); };
	};
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({out(0x20, 0x11), out(0x21, 0x20), out(0x21, 4), out(0x21, 1),
			  out(0x21, 0xfd), [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
		0);
	EXPECT_EQ(set_line(1, 1), 0);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x21));
	EXPECT_EQ(set_line(1, 0), 0);
}

TEST_P(Interrupts, AnIrqfdRaisesItsLine)
{
	wire_pin(11, 0x51, false);
	Descriptor eventfd{sim::make_eventfd()};
	kvm_irqfd request{};
	request.fd = static_cast<u32>(eventfd.number());
	request.gsi = 11;
	ASSERT_EQ(vm_->ioctl(KVM_IRQFD, &request), 0);
	EXPECT_EQ(vm_->ioctl(KVM_IRQFD, &request), -EBUSY);
	sim::signal_eventfd(eventfd.number());
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x51));
	// Its last descriptor is closed: nothing watches it any more.
	eventfd.close();
	EXPECT_EQ(sim::file_counts().eventfd_watches, 0u);
	EXPECT_EQ(sim::file_counts().eventfd_references, 0u);
}

TEST_P(Interrupts, AResamplerHearsWhenTheGuestHasFinished)
{
	wire_pin(12, 0x52, true);
	const Descriptor trigger{sim::make_eventfd()}, resample{sim::make_eventfd()};
	kvm_irqfd request{};
	request.fd = static_cast<u32>(trigger.number());
	request.resamplefd = static_cast<u32>(resample.number());
	request.gsi = 12;
	request.flags = KVM_IRQFD_FLAG_RESAMPLE;
	ASSERT_EQ(vm_->ioctl(KVM_IRQFD, &request), 0);
	sim::signal_eventfd(trigger.number());
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x52));
	EXPECT_EQ(sim::take_eventfd(resample.number()), 0u);
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({[](Guest &g) { return end_of_interrupt(g); },
			  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
		0);
	EXPECT_EQ(sim::take_eventfd(resample.number()), 1u);
	request.flags = KVM_IRQFD_FLAG_DEASSIGN;
	EXPECT_EQ(vm_->ioctl(KVM_IRQFD, &request), 0);
}

// CVE-2017-1000252: a GSI beyond the routes.
TEST_P(Interrupts, AGsiBeyondTheRoutesIsRefused)
{
	const Descriptor eventfd{sim::make_eventfd()};
	kvm_irqfd request{};
	request.fd = static_cast<u32>(eventfd.number());
	for (const u32 gsi : {4096u, 0x80000000u, ~0u}) {
		request.gsi = gsi;
		EXPECT_EQ(vm_->ioctl(KVM_IRQFD, &request), -EINVAL);
		EXPECT_EQ(set_line(gsi, 1), 0);
	}
}

TEST_P(Interrupts, RoutesLeadElsewhere)
{
	struct {
		kvm_irq_routing header{.nr = 1, .flags = 0, .entries = {}};
		kvm_irq_routing_entry entry{};
	} routing;
	routing.entry.gsi = 20;
	routing.entry.type = KVM_IRQ_ROUTING_MSI;
	routing.entry.u.msi.address_lo = 0xfee00000;
	routing.entry.u.msi.data = 0x66;
	ASSERT_EQ(vm_->ioctl(KVM_SET_GSI_ROUTING, &routing), 0);
	EXPECT_EQ(set_line(20, 1), 0);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x66));
	routing.entry.type = 77;
	EXPECT_EQ(vm_->ioctl(KVM_SET_GSI_ROUTING, &routing), -EINVAL);
}

TEST_P(Interrupts, AProcessorStartsAnother)
{
	kvm_mp_state state{};
	ASSERT_EQ(vcpus_[1].ioctl(KVM_GET_MP_STATE, &state), 0);
	EXPECT_EQ(state.mp_state, u32{KVM_MP_STATE_UNINITIALIZED});
	// INIT, then SIPI with vector 0x9a.
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({[](Guest &g) { return g.wrmsr(0x830, u64{1} << 32 | 0x4500); },
			  [](Guest &g) { return g.wrmsr(0x830, u64{1} << 32 | 0x469a); },
			  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
		0);
	EXPECT_EQ(vcpus_[1].run([](Guest &g) {
		EXPECT_EQ(g.get(field::guest_rip), 0u);
		EXPECT_EQ(g.get(field::SegmentFields<x86::SegmentName::cs>::base), 0x9a000u);
		EXPECT_FALSE(g.get(field::guest_cr0) & X86_CR0_PE);
		return GuestExit::of(ExitReason::triple_fault);
	}),
		0);
	ASSERT_EQ(vcpus_[1].ioctl(KVM_GET_MP_STATE, &state), 0);
	EXPECT_EQ(state.mp_state, u32{KVM_MP_STATE_RUNNABLE});
}

TEST_P(Interrupts, StatesOfTheChipsGoOutAndComeBack)
{
	for (const u32 id : {u32{KVM_IRQCHIP_PIC_MASTER}, u32{KVM_IRQCHIP_PIC_SLAVE}, u32{KVM_IRQCHIP_IOAPIC}}) {
		kvm_irqchip chip{}, again{};
		chip.chip_id = again.chip_id = id;
		ASSERT_EQ(vm_->ioctl(KVM_GET_IRQCHIP, &chip), 0);
		ASSERT_EQ(vm_->ioctl(KVM_SET_IRQCHIP, &chip), 0);
		ASSERT_EQ(vm_->ioctl(KVM_GET_IRQCHIP, &again), 0);
		EXPECT_EQ(std::memcmp(&chip, &again, sizeof(chip)), 0) << id;
	}
	kvm_irqchip none{};
	none.chip_id = 3;
	EXPECT_EQ(vm_->ioctl(KVM_GET_IRQCHIP, &none), -EINVAL);
	EXPECT_EQ(vm_->ioctl(KVM_SET_IRQCHIP, &none), -EINVAL);

	kvm_pit_state2 pit{};
	ASSERT_EQ(vm_->ioctl(KVM_GET_PIT2, &pit), 0);
	pit.channels[0].mode = 2;
	pit.channels[0].count = 1193;
	ASSERT_EQ(vm_->ioctl(KVM_SET_PIT2, &pit), 0);
	kvm_pit_state2 again{};
	ASSERT_EQ(vm_->ioctl(KVM_GET_PIT2, &again), 0);
	EXPECT_EQ(again.channels[0].count, 1193u);
	kvm_reinject_control control{};
	EXPECT_EQ(vm_->ioctl(KVM_REINJECT_CONTROL, &control), 0);

	auto lapic = std::make_unique<kvm_lapic_state>();
	ASSERT_EQ(vcpus_[0].ioctl(KVM_GET_LAPIC, lapic.get()), 0);
	EXPECT_EQ(vcpus_[0].ioctl(KVM_SET_LAPIC, lapic.get()), 0);
	kvm_irq_level line{{9}, 1};
	EXPECT_EQ(vm_->ioctl(KVM_IRQ_LINE_STATUS, &line), 0);
}

TEST_P(Interrupts, ThePitRaisesItsLine)
{
	wire_pin(0, 0x58, false);
	struct {
		kvm_irq_routing header{.nr = 1, .flags = 0, .entries = {}};
		kvm_irq_routing_entry entry{};
	} routing;
	routing.entry.type = KVM_IRQ_ROUTING_IRQCHIP;
	routing.entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	ASSERT_EQ(vm_->ioctl(KVM_SET_GSI_ROUTING, &routing), 0);
	const auto out = [](u16 port, u8 value) {
		return [=](Guest &g) { return g.out(port, 1, value); };
	};
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({out(0x43, 0x34), out(0x40, 0xa9), out(0x40, 4),
			  [](Guest &g) { return g.in(0x40, 1); },
			  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
		0);
	sim::clock().advance(2'000'000);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x58));
}

TEST_P(Interrupts, WithoutChipsHere)
{
	const Vm other;
	EXPECT_EQ(other.ioctl(KVM_CREATE_PIT2, 0ul), -EFAULT);
	kvm_pit_config config{};
	EXPECT_EQ(other.ioctl(KVM_CREATE_PIT2, &config), -ENOENT);
	kvm_irqchip chip{};
	EXPECT_EQ(other.ioctl(KVM_GET_IRQCHIP, &chip), -ENXIO);
	kvm_irq_level line{{1}, 1};
	EXPECT_EQ(other.ioctl(KVM_IRQ_LINE, &line), -ENXIO);
	kvm_irqfd request{};
	EXPECT_EQ(other.ioctl(KVM_IRQFD, &request), -EAGAIN);
	const Vcpu vcpu = other.create_vcpu();
	auto lapic = std::make_unique<kvm_lapic_state>();
	EXPECT_EQ(vcpu.ioctl(KVM_GET_LAPIC, lapic.get()), -EINVAL);
	EXPECT_EQ(other.ioctl(KVM_CREATE_IRQCHIP), -EINVAL); // too late
}

// CVE-2018-19407: the VMM's I/O APIC hears of interrupts that the guest has finished.
TEST_P(Interrupts, SplitIrqchip)
{
	const Vm other;
	kvm_enable_cap capability{};
	capability.cap = KVM_CAP_SPLIT_IRQCHIP;
	capability.args[0] = 24;
	ASSERT_EQ(other.ioctl(KVM_ENABLE_CAP, &capability), 0);
	EXPECT_EQ(other.ioctl(KVM_ENABLE_CAP, &capability), -EEXIST);
	const Vcpu vcpu = other.create_vcpu();
	ASSERT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_protected_mode(0x1000);
	enable_apic(vcpu);
	struct {
		kvm_irq_routing header{.nr = 1, .flags = 0, .entries = {}};
		kvm_irq_routing_entry entry{};
	} routing;
	routing.entry.gsi = 3;
	routing.entry.type = KVM_IRQ_ROUTING_MSI;
	routing.entry.u.msi.address_lo = 0xfee00000;
	routing.entry.u.msi.data = 0x8055; // level
	ASSERT_EQ(other.ioctl(KVM_SET_GSI_ROUTING, &routing), 0);
	kvm_msi msi{};
	msi.address_lo = 0xfee00000;
	msi.data = 0x8055;
	EXPECT_EQ(other.ioctl(KVM_SIGNAL_MSI, &msi), 1);
	EXPECT_EQ(delivered_to(vcpu), interrupt(0x55));
	EXPECT_EQ(vcpu.run([](Guest &g) { return end_of_interrupt(g); }), 0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_IOAPIC_EOI});
	EXPECT_EQ(vcpu.shared().eoi.vector, 0x55);
}

INSTANTIATE_TEST_SUITE_P(Processors, Interrupts,
	testing::Values(ApicHelp::none, ApicHelp::task_priority, ApicHelp::delivery), name_of);

} // namespace
} // namespace kvmpp::tests
