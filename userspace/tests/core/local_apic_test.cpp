// SPDX-License-Identifier: GPL-2.0-only
// What the processor does of a local APIC by itself, or the guest in its memory.
#include <asm/kvm_para.h>
#include "tests/core/interrupts.h"

namespace kvmpp::tests
{
namespace
{

class LocalApic : public Interrupts {};

// What needs no exit where the processor delivers.
TEST_P(LocalApic, AnInterruptBeginsAndEndsWithoutAnExit)
{
	ASSERT_EQ(send_msi(0x45), 1);
	ASSERT_EQ(send_msi(0x65), 1);
	const bool delivers = GetParam() == ApicHelp::delivery;
	const auto with_interrupts = [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return GuestExit::of(ExitReason::external_interrupt);
	};
	const auto end = [=](Guest &g) {
		const auto exit = g.write_x2apic(0x80b, 0);
		EXPECT_EQ(exit.has_value(), !delivers);
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return exit.value_or(GuestExit::of(ExitReason::external_interrupt));
	};
	std::vector<u8> taken;
	const auto step = [&](Guest &g) {
		if (!g.delivered)
			return with_interrupts(g);
		taken.push_back(g.delivered->event.vector());
		if (taken.size() == 2) {
			EXPECT_FALSE(end(g).reason.basic() == ExitReason::eoi_induced);
			return GuestExit::of(ExitReason::triple_fault);
		}
		return end(g);
	};
	EXPECT_EQ(vcpus_[0].run(step), 0);
	EXPECT_EQ(taken, (std::vector<u8>{0x65, 0x45}));
}

TEST_P(LocalApic, TheStateThatIsSavedKnowsWhatIsUnderWay)
{
	ASSERT_EQ(send_msi(0x45), 1);
	ASSERT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
	ASSERT_EQ(send_msi(0x46), 1);
	auto state = std::make_unique<kvm_lapic_state>();
	ASSERT_EQ(vcpus_[0].ioctl(KVM_GET_LAPIC, state.get()), 0);
	EXPECT_EQ(state->regs[0x120], 1 << 5); // in service: 0x45
	EXPECT_EQ(state->regs[0x220], 1 << 6); // requested: 0x46
	// On the other one, as if it were another machine: 0x45 is under way, and 0x46 of its class waits.
	enable_apic(vcpus_[1]);
	state->regs[0x23] = 1; // its own ID
	ASSERT_EQ(vcpus_[1].ioctl(KVM_SET_LAPIC, state.get()), 0);
	kvm_mp_state runnable{.mp_state = KVM_MP_STATE_RUNNABLE};
	ASSERT_EQ(vcpus_[1].ioctl(KVM_SET_MP_STATE, &runnable), 0);
	EXPECT_FALSE(delivered_to(vcpus_[1]));
	const auto end = [](Guest &g) {
		return g.write_x2apic(0x80b, 0).value_or(GuestExit::of(ExitReason::external_interrupt));
	};
	std::optional<sim::Delivered> next;
	const auto look = [&](Guest &g) {
		next = g.delivered;
		return GuestExit::of(ExitReason::triple_fault);
	};
	EXPECT_EQ(vcpus_[1].run(sim::in_turn({end, look})), 0);
	EXPECT_EQ(next, interrupt(0x46));
}

TEST_P(LocalApic, TheTaskPriorityHoldsAnInterruptBack)
{
	const auto set_priority = [&](u8 value) {
		EXPECT_EQ(vcpus_[0].run(sim::in_turn({[=](Guest &g) {
								 g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
								 return g.write_cr8(value).value_or(
									 GuestExit::of(ExitReason::external_interrupt));
							 },
				  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
			0);
	};
	set_priority(4);
	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_FALSE(delivered_to(vcpus_[0]));
	EXPECT_EQ(vcpus_[0].shared().cr8, 4);
	// As its last act before it is left, or by an exit: the interrupt comes right behind.
	bool taken = false;
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({[](Guest &g) {
							 g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
							 const auto exit = g.write_cr8(3);
							 EXPECT_EQ(exit.has_value(), GetParam() != ApicHelp::delivery);
							 return exit.value_or(GuestExit::of(ExitReason::external_interrupt));
						 },
			  [&](Guest &g) {
				  taken = g.delivered == interrupt(0x45);
				  return GuestExit::of(ExitReason::triple_fault);
			  }})),
		0);
	EXPECT_TRUE(taken);
}

TEST_P(LocalApic, ADebuggerKeepsThemAway)
{
	kvm_guest_debug debug{};
	debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ;
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_FALSE(delivered_to(vcpus_[0]));
	debug.control = 0;
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
}

// The guest ends an interrupt by a bit in its memory, as long as nobody else needs to know.
TEST_P(LocalApic, AnEndWithoutAnExitInGuestMemory)
{
	const sim::UserMemory ram{16};
	ASSERT_EQ(vm_->set_slot(0, 0, ram), 0);
	constexpr u64 place = 0x3004;
	u8 &bit = ram.at<u8>(place);
	EXPECT_EQ(vcpus_[0].set_msr(MSR_KVM_PV_EOI_EN, place | 3), 0);
	ASSERT_EQ(vcpus_[0].set_msr(MSR_KVM_PV_EOI_EN, place | 1), 1);
	EXPECT_EQ(vcpus_[0].msr(MSR_KVM_PV_EOI_EN), place | 1);
	const bool offers = GetParam() != ApicHelp::delivery;
	const auto with_interrupts = [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return GuestExit::of(ExitReason::external_interrupt);
	};
	const auto stop = [](Guest &) { return GuestExit::of(ExitReason::triple_fault); };
	const auto in_service = [&] {
		auto state = std::make_unique<kvm_lapic_state>();
		EXPECT_EQ(vcpus_[0].ioctl(KVM_GET_LAPIC, state.get()), 0);
		return state->regs[0x120] != 0;
	};

	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({with_interrupts, [&](Guest &g) {
							 EXPECT_EQ(g.delivered, interrupt(0x45));
							 EXPECT_EQ(bit, offers);
							 if (std::exchange(bit, 0))
								 return GuestExit::of(ExitReason::external_interrupt);
							 return g.write_x2apic(0x80b, 0).value_or(
								 GuestExit::of(ExitReason::external_interrupt));
						 },
			  stop})),
		0);
	EXPECT_FALSE(in_service());

	// Not taken up in time: the bit is gone, and the interrupt is under way.
	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({with_interrupts, stop})), 0);
	EXPECT_EQ(bit, 0);
	EXPECT_TRUE(in_service());
	// And not offered while another one waits, or the I/O APIC wants to know.
	ASSERT_EQ(send_msi(0x46), 1);
	const auto look = [&](Guest &) {
		EXPECT_EQ(bit, 0);
		return GuestExit::of(ExitReason::triple_fault);
	};
	EXPECT_EQ(vcpus_[0].run(look), 0);
	wire_pin(10, 0x95, false);
	ASSERT_EQ(set_line(10, 1), 0);
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({with_interrupts, look})), 0);
}

TEST_P(LocalApic, ASelfIpi)
{
	std::vector<u8> taken;
	const auto send = [](u8 vector) {
		return [=](Guest &g) {
			g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
			return g.write_x2apic(0x83f, vector).value_or(GuestExit::of(ExitReason::external_interrupt));
		};
	};
	const auto look = [&](Guest &g) {
		if (g.delivered)
			taken.push_back(g.delivered->event.vector());
		return GuestExit::of(ExitReason::triple_fault);
	};
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({send(5), send(0x77), look})), 0);
	EXPECT_EQ(taken, std::vector<u8>{0x77});
	// The illegal vector has been noted.
	EXPECT_EQ(vcpus_[0].set_msr(0x828, 0), 1);
	EXPECT_EQ(vcpus_[0].msr(0x828), 1u << 5);
}

TEST_P(LocalApic, RegistersAreReadFromThePage)
{
	ASSERT_EQ(send_msi(0x45), 1);
	ASSERT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
	EXPECT_EQ(vcpus_[0].run([](Guest &g) {
		if (GetParam() == ApicHelp::delivery) {
			EXPECT_EQ(g.read_x2apic(0x802), 0u);
			EXPECT_EQ(g.read_x2apic(0x80a), 0x40u);
			EXPECT_EQ(g.read_x2apic(0x80f), 0x1ffu);
			EXPECT_EQ(g.read_x2apic(0x812), 1u << 5);
		}
		return GuestExit::of(ExitReason::triple_fault);
	}),
		0);
	// What the page does not know, or no APIC has, exits.
	for (const u32 index : {0x839u, 0x80bu, 0x80eu, 0x82fu, 0x840u})
		EXPECT_EQ(vcpus_[0].run(sim::in_turn({[=](Guest &g) { return g.rdmsr(index); },
				  [](Guest &) { return GuestExit::of(ExitReason::triple_fault); }})),
			0);
}

// A processor that is an emulated one is asked to only if somebody says so.
class AskedFor : public Machine {
protected:
	AskedFor() { load_at_start_ = false; }

	bool delivers(int apicv)
	{
		sim::set_apicv(apicv);
		load();
		bool result = false;
		{
			const Vm vm;
			EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
			const Vcpu vcpu = vm.create_vcpu();
			vcpu.enter_protected_mode(0x1000);
			EXPECT_EQ(vcpu.run([&](Guest &g) {
				result = g.get(field::secondary_controls) & vmx::secondary::virtual_interrupt_delivery;
				return GuestExit::of(ExitReason::triple_fault);
			}),
				0);
		}
		unload();
		return result;
	}
};

TEST_F(AskedFor, VirtualInterruptDelivery)
{
	EXPECT_TRUE(delivers(-1));
	EXPECT_FALSE(delivers(0));
	sim::set_msr_everywhere(msr::vmx_true_pin,
		sim::cpu(0).msrs.at(msr::vmx_true_pin) & ~(u64{vmx::pin::posted_interrupts} << 32));
	EXPECT_FALSE(delivers(-1));
	EXPECT_TRUE(delivers(1));
}

INSTANTIATE_TEST_SUITE_P(Processors, LocalApic,
	testing::Values(ApicHelp::none, ApicHelp::task_priority, ApicHelp::delivery), name_of);

} // namespace
} // namespace kvmpp::tests
