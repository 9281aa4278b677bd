// SPDX-License-Identifier: GPL-2.0-only
// Interrupts from the VMM to the guest and back: lines, messages, eventfds, processors among themselves.
#include <thread>
#include <asm/kvm_para.h>
#include "machine/halt_polling.h"
#include "sim/clock.h"
#include "sim/cpu/model.h"
#include "tests/core/machine.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::EventInfo;
using vmx::EventType;
using vmx::ExitReason;
namespace field = vmx::field;
namespace msr = x86::msr;

// What the processor does of the local APIC by itself.
enum class ApicHelp { none, task_priority, delivery };

// A VM with all chips in the module and local APICs in x2APIC mode, enabled.
// on a processor that delivers interrupts by itself, on one with a TPR shadow alone, and on one with
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

TEST_P(Interrupts, AHaltedProcessorSleepsUntilAnInterrupt)
{
	sim::this_thread().impatient = true;
	const auto halt = [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return g.hlt();
	};
	EXPECT_EQ(vcpus_[0].run(halt), -EINTR);
	sim::this_thread().signal = false;
	kvm_mp_state state{};
	ASSERT_EQ(vcpus_[0].ioctl(KVM_GET_MP_STATE, &state), 0);
	EXPECT_EQ(state.mp_state, u32{KVM_MP_STATE_HALTED});
	send_msi(0x45);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x45));
	sim::this_thread().impatient = false;
}

// An impatient thread gets a signal when it sleeps, so what wakes its guest came while it looked for it.
TEST_P(Interrupts, AHaltIsPolledForBeforeItIsSlept)
{
	sim::Thread &self = sim::this_thread();
	self.impatient = self.alone = true;
	const auto halt = [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return g.hlt();
	};
	const auto stop = [](Guest &) { return GuestExit::of(ExitReason::triple_fault); };
	// What ends it: a vector, each above the last, that comes before it or while it lasts; or the signal.
	enum class When { never, before, meanwhile };
	u8 vector = 0x35;
	const auto halt_until = [&](When when) {
		kvm_mp_state runnable{.mp_state = KVM_MP_STATE_RUNNABLE};
		EXPECT_EQ(vcpus_[0].ioctl(KVM_SET_MP_STATE, &runnable), 0);
		vcpus_[0].enter_protected_mode(0x1000); // with interrupts off
		vector += 0x10;
		if (when == When::before)
			send_msi(vector);
		std::thread sender{[&, when] {
			std::this_thread::sleep_for(std::chrono::milliseconds{2});
			if (when == When::meanwhile)
				send_msi(vector);
		}};
		const long result = vcpus_[0].run(sim::in_turn({halt, stop}));
		sender.join();
		self.signal = false;
		return result;
	};
	// Nobody polls before the first halt was a short one.
	EXPECT_EQ(halt_until(When::never), -EINTR);
	EXPECT_EQ(halt_until(When::before), 0);
	EXPECT_EQ(halt_until(When::meanwhile), 0);

	ASSERT_EQ(vcpus_[0].set_msr(MSR_KVM_POLL_CONTROL, 0), 1);
	EXPECT_EQ(vcpus_[0].set_msr(MSR_KVM_POLL_CONTROL, 2), 0);
	EXPECT_EQ(halt_until(When::never), -EINTR);
	ASSERT_EQ(vcpus_[0].set_msr(MSR_KVM_POLL_CONTROL, 1), 1);
	EXPECT_EQ(halt_until(When::meanwhile), 0);

	kvm_enable_cap limit{};
	limit.cap = KVM_CAP_HALT_POLL;
	limit.args[0] = u64{1} << 32;
	EXPECT_EQ(vm_->ioctl(KVM_ENABLE_CAP, &limit), -EINVAL);
	limit.args[0] = 0;
	ASSERT_EQ(vm_->ioctl(KVM_ENABLE_CAP, &limit), 0);
	EXPECT_EQ(halt_until(When::never), -EINTR);
	self.impatient = self.alone = false;
}

TEST(HaltPolling, LearnsHowLongHaltsAre)
{
	constexpr kvmpp_halt_polling parameters{.most = 200'000, .grow = 2, .grow_start = 10'000, .shrink = 0};
	machine::HaltPolling polling;
	const auto after = [&](u64 halted) {
		polling.learn(halted, parameters.most, parameters);
		return polling.window(parameters.most);
	};
	EXPECT_EQ(polling.window(parameters.most), 0u);
	EXPECT_EQ(after(50'000), 10'000u);
	EXPECT_EQ(after(9'000), 10'000u) << "long enough";
	EXPECT_EQ(after(50'000), 20'000u);
	for (unsigned i = 0; i < 10; ++i)
		after(199'000);
	EXPECT_EQ(polling.window(parameters.most), 200'000u) << "and no longer";
	EXPECT_EQ(polling.window(30'000), 30'000u);
	EXPECT_EQ(after(300'000), 0u) << "in vain";

	after(50'000);
	after(50'000);
	polling.learn(300'000, 200'000, {.most = 200'000, .grow = 2, .grow_start = 10'000, .shrink = 2});
	EXPECT_EQ(polling.window(200'000), 10'000u);
	polling.learn(300'000, 200'000, {.most = 200'000, .grow = 2, .grow_start = 10'000, .shrink = 2});
	EXPECT_EQ(polling.window(200'000), 0u);
	polling.learn(1'000, 200'000, {.most = 200'000, .grow = 0, .grow_start = 10'000, .shrink = 2});
	EXPECT_EQ(polling.window(200'000), 0u) << "never longer";
}

TEST_P(Interrupts, TheTimerOfTheApicFires)
{
	ASSERT_EQ(vcpus_[0].set_msr(0x83e, 0xb), 1); // divided by 1
	ASSERT_EQ(vcpus_[0].set_msr(0x832, 0x70), 1);
	ASSERT_EQ(vcpus_[0].set_msr(0x838, 1'000'000), 1);
	EXPECT_FALSE(delivered_to(vcpus_[0]));
	sim::clock().advance(1'000'000);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x70));
}

// While the guest runs the processor watches its deadline, and no timer of the host's is set.
TEST_P(Interrupts, ADeadlineEndsTheGuestsTurn)
{
	constexpr u32 deadline_mode = 1 << 18;
	ASSERT_EQ(vcpus_[0].set_msr(0x832, deadline_mode | 0x70), 1);
	constexpr u64 ahead = 1'000'000;
	u64 due = 0;
	const auto arm = [&](Guest &g) {
		EXPECT_FALSE(g.get(field::pin_controls) & vmx::pin::preemption_timer);
		due = sim::clock().tsc() + g.get(field::tsc_offset) + ahead;
		return g.wrmsr(msr::tsc_deadline, due);
	};
	const auto wait = [&](Guest &g) {
		EXPECT_EQ(sim::clock().next_expiry(), 0u);
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		const GuestExit exit = g.spin_until_timer();
		// Not early, and hardly late.
		const u64 now = sim::clock().tsc() + g.get(field::tsc_offset);
		EXPECT_GE(now, due);
		EXPECT_LE(now, due + 1000);
		return exit;
	};
	const auto look = [&](Guest &g) {
		EXPECT_EQ(g.delivered, interrupt(0x70));
		EXPECT_FALSE(g.get(field::pin_controls) & vmx::pin::preemption_timer);
		return GuestExit::of(ExitReason::triple_fault);
	};
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({arm, wait, look})), 0);
	EXPECT_EQ(vcpus_[0].msr(msr::tsc_deadline), 0u);

	// One that passes while the VMM has its turn comes with the next entry. Its class is above the one
	// that is under way.
	ASSERT_EQ(vcpus_[0].set_msr(0x832, deadline_mode | 0x80), 1);
	ASSERT_EQ(vcpus_[0].run(sim::in_turn({arm, [](Guest &g) { return g.out(0x80, 1, 0); }})), 0);
	sim::clock().advance(10 * ahead);
	EXPECT_EQ(vcpus_[0].msr(msr::tsc_deadline), due);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x80));
}

TEST_P(Interrupts, ADeadlineWakesAHaltedProcessor)
{
	constexpr u32 deadline_mode = 1 << 18;
	ASSERT_EQ(vcpus_[0].set_msr(0x832, deadline_mode | 0x70), 1);
	std::atomic<bool> woken{false};
	std::thread time{[&] {
		while (!woken) {
			sim::clock().advance(100'000);
			std::this_thread::sleep_for(std::chrono::microseconds{100});
		}
	}};
	const auto arm = [&](Guest &g) {
		return g.wrmsr(msr::tsc_deadline, sim::clock().tsc() + g.get(field::tsc_offset) + 1'000'000);
	};
	const auto halt = [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		return g.hlt();
	};
	const auto look = [&](Guest &g) {
		EXPECT_EQ(g.delivered, interrupt(0x70));
		return GuestExit::of(ExitReason::triple_fault);
	};
	EXPECT_EQ(vcpus_[0].run(sim::in_turn({arm, halt, look})), 0);
	woken = true;
	time.join();
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

TEST_P(Interrupts, StatesThatAVcpuWaitsIn)
{
	for (const u32 wanted : {u32{KVM_MP_STATE_HALTED}, u32{KVM_MP_STATE_INIT_RECEIVED},
		     u32{KVM_MP_STATE_UNINITIALIZED}, u32{KVM_MP_STATE_RUNNABLE}}) {
		kvm_mp_state state{.mp_state = wanted};
		ASSERT_EQ(vcpus_[1].ioctl(KVM_SET_MP_STATE, &state), 0);
		state.mp_state = 99;
		ASSERT_EQ(vcpus_[1].ioctl(KVM_GET_MP_STATE, &state), 0);
		EXPECT_EQ(state.mp_state, wanted);
	}
	kvm_mp_state none{.mp_state = 99};
	EXPECT_EQ(vcpus_[1].ioctl(KVM_SET_MP_STATE, &none), -EINVAL);
	kvm_interrupt interrupt{.irq = 0x30};
	EXPECT_EQ(vcpus_[0].ioctl(KVM_INTERRUPT, &interrupt), -ENXIO); // the PIC is here
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

// A guest that spins, or says whom it waits for, gives way to a processor that has lost its CPU.
TEST_P(Interrupts, WhoSpinsLetsOthersRun)
{
	constexpr unsigned sched_yield = 11;
	std::atomic<sim::Thread *> sleeper{nullptr};
	std::atomic<bool> stop{false};
	kvm_mp_state state{.mp_state = KVM_MP_STATE_HALTED};
	ASSERT_EQ(vcpus_[1].ioctl(KVM_SET_MP_STATE, &state), 0);
	std::thread other{[&] {
		sim::set_guest_program([](Guest &g) { return g.hlt(); });
		sleeper = &sim::this_thread();
		while (!stop) {
			EXPECT_EQ(vcpus_[1].run(), -EINTR);
			sim::this_thread().signal = false;
		}
	}};
	const auto yields_by = [&](sim::GuestProgram exit) {
		const unsigned before = sleeper.load()->yields_to_it;
		// It sleeps sooner or later, which is away from its CPU too.
		for (unsigned i = 0; i < 10'000 && sleeper.load()->yields_to_it == before; ++i) {
			EXPECT_EQ(vcpus_[0].run(sim::in_turn({exit, [](Guest &g) { return g.out(0x80, 1, 0); }})), 0);
			std::this_thread::yield();
		}
		return sleeper.load()->yields_to_it - before;
	};
	while (!sleeper)
		std::this_thread::yield();
	EXPECT_GT(yields_by([](Guest &) { return GuestExit::of(ExitReason::pause, 0, 2); }), 0u);
	EXPECT_GT(yields_by([](Guest &g) {
		g.gprs[x86::Gpr::rbx] = 1;
		return g.vmcall(sched_yield);
	}),
		0u);
	const unsigned before = sleeper.load()->yields_to_it;
	for (const u64 id : {0ull, 77ull}) // itself, and nobody
		EXPECT_EQ(vcpus_[0].run(sim::in_turn({[=](Guest &g) {
							      g.gprs[x86::Gpr::rbx] = id;
							      return g.vmcall(sched_yield);
						      },
				  [](Guest &g) { return g.out(0x80, 1, 0); }})),
			0);
	EXPECT_EQ(sleeper.load()->yields_to_it, before);
	stop = true;
	sim::send_signal(*sleeper.load());
	other.join();
}

// What needs no exit where the processor delivers.
TEST_P(Interrupts, AnInterruptBeginsAndEndsWithoutAnExit)
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

TEST_P(Interrupts, TheStateThatIsSavedKnowsWhatIsUnderWay)
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

TEST_P(Interrupts, TheTaskPriorityHoldsAnInterruptBack)
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

TEST_P(Interrupts, ADebuggerKeepsThemAway)
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
TEST_P(Interrupts, AnEndWithoutAnExitInGuestMemory)
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

TEST_P(Interrupts, ASelfIpi)
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

TEST_P(Interrupts, RegistersAreReadFromThePage)
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

const char *name_of(const testing::TestParamInfo<ApicHelp> &one)
{
	constexpr const char *names[] = {"Without", "TprShadow", "Delivery"};
	return names[static_cast<unsigned>(one.param)];
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

INSTANTIATE_TEST_SUITE_P(Processors, Interrupts,
	testing::Values(ApicHelp::none, ApicHelp::task_priority, ApicHelp::delivery), name_of);

} // namespace
} // namespace kvmpp::tests
