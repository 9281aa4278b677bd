// SPDX-License-Identifier: GPL-2.0-only
// Processors that wait: halts, timers, and who gives way to whom.
#include <thread>
#include <asm/kvm_para.h>
#include "machine/halt_polling.h"
#include "sim/clock.h"
#include "tests/core/interrupts.h"

namespace kvmpp::tests
{
namespace
{

class Waiting : public Interrupts {};

TEST_P(Waiting, AHaltedProcessorSleepsUntilAnInterrupt)
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
TEST_P(Waiting, AHaltIsPolledForBeforeItIsSlept)
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

TEST_P(Waiting, TheTimerOfTheApicFires)
{
	ASSERT_EQ(vcpus_[0].set_msr(0x83e, 0xb), 1); // divided by 1
	ASSERT_EQ(vcpus_[0].set_msr(0x832, 0x70), 1);
	ASSERT_EQ(vcpus_[0].set_msr(0x838, 1'000'000), 1);
	EXPECT_FALSE(delivered_to(vcpus_[0]));
	sim::clock().advance(1'000'000);
	EXPECT_EQ(delivered_to(vcpus_[0]), interrupt(0x70));
}

// While the guest runs the processor watches its deadline, and no timer of the host's is set.
TEST_P(Waiting, ADeadlineEndsTheGuestsTurn)
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

TEST_P(Waiting, ADeadlineWakesAHaltedProcessor)
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

TEST_P(Waiting, StatesThatAVcpuWaitsIn)
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

// A guest that spins, or says whom it waits for, gives way to a processor that has lost its CPU.
TEST_P(Waiting, WhoSpinsLetsOthersRun)
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

INSTANTIATE_TEST_SUITE_P(Processors, Waiting,
	testing::Values(ApicHelp::none, ApicHelp::task_priority, ApicHelp::delivery), name_of);

} // namespace
} // namespace kvmpp::tests
