// SPDX-License-Identifier: GPL-2.0-only
// How a local APIC takes interrupts and gives them to its processor.
#include <chrono>
#include <thread>
#include <cstring>
#include <vector>
#include "tests/devices/apic.h"

namespace kvmpp::tests
{

TEST(Lapic, FailsToBeMadeWithoutMemory)
{
	const auto before = sim::memory_statistics();
	for (u64 successes : {0, 1}) {
		sim::fail_allocation_after(successes);
		const auto made = Lapic::create(0, {[](void *) {}, nullptr});
		sim::fail_no_allocation();
		ASSERT_FALSE(made.has_value());
		EXPECT_EQ(made.error(), Errno{ENOMEM});
		EXPECT_EQ(sim::memory_statistics().live, before.live);
	}
}

TEST(Lapic, TakesNothingWhileSoftwareHasItDisabled)
{
	Apic apic;
	EXPECT_EQ(apic.post(0x40), delivery_ignored);
	EXPECT_FALSE(apic->attention());
	apic.enable();
	EXPECT_EQ(apic.post(0x40), 1);
	EXPECT_EQ(apic.take(), 0x40);
}

TEST(Lapic, APostWakesOnceUntilItIsSeen)
{
	Apic apic;
	apic.enable();
	apic.post(0x40);
	apic.post(0x41);
	EXPECT_EQ(apic.wakes, 1u);
	apic->collect();
	apic.post(0x42);
	EXPECT_EQ(apic.wakes, 2u);
}

TEST(Lapic, SameVectorTwiceIsCoalesced)
{
	Apic apic;
	apic.enable();
	EXPECT_EQ(apic.post(0x40), 1);
	EXPECT_EQ(apic.post(0x40), delivery_coalesced) << "posted";
	apic->collect();
	EXPECT_EQ(apic.post(0x40), delivery_coalesced) << "in IRR";
	EXPECT_EQ(apic.take(), 0x40);
	EXPECT_EQ(apic.post(0x40), 1) << "in ISR there is room for one more";
	EXPECT_EQ(apic.pending(), 0) << "but not before its own end";
	apic.eoi();
	EXPECT_EQ(apic.take(), 0x40);
	apic.eoi();
	EXPECT_EQ(apic.pending(), 0);
}

TEST(Lapic, DeliversEveryVectorByPriority)
{
	Apic apic;
	apic.enable();
	for (unsigned vector = 16; vector < 256; ++vector)
		EXPECT_EQ(apic.post(vector), 1);
	for (unsigned vector = 255; vector >= 16; --vector) {
		ASSERT_EQ(apic.take(), vector);
		ASSERT_EQ(apic->highest_in_service(), vector);
		ASSERT_EQ(apic.eoi(), vector);
	}
	EXPECT_EQ(apic.pending(), 0);
	EXPECT_EQ(apic.eoi(), 0) << "an EOI too many is nothing";
}

TEST(Lapic, NestsByPriorityClass)
{
	Apic apic;
	apic.enable();
	apic.post(0x45);
	EXPECT_EQ(apic.take(), 0x45);
	apic.post(0x4f);
	EXPECT_EQ(apic.pending(), 0) << "the same class waits";
	apic.post(0x51);
	EXPECT_EQ(apic.take(), 0x51);
	EXPECT_EQ(apic->processor_priority(), 0x50);
	EXPECT_EQ(apic.eoi(), 0x51);
	EXPECT_EQ(apic->processor_priority(), 0x40);
	EXPECT_EQ(apic.eoi(), 0x45);
	EXPECT_EQ(apic.take(), 0x4f);
}

TEST(Lapic, TaskPriorityHoldsInterruptsBack)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::tpr, 0x4f);
	apic.post(0x4f);
	EXPECT_EQ(apic.pending(), 0);
	EXPECT_EQ(apic->highest_requested(), 0x4f);
	apic->set_cr8(3);
	EXPECT_EQ(apic.read(ApicRegister::tpr), 0x30u);
	EXPECT_EQ(apic.pending(), 0x4f);
	apic->set_cr8(0xf);
	EXPECT_EQ(apic->cr8(), 0xf);
	apic.post(0xff);
	EXPECT_EQ(apic.pending(), 0) << "class 15 masks all";
}

// SDM vol. 3, 11.8.3.1.
TEST(Lapic, ProcessorPriority)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::tpr, 0x37);
	EXPECT_EQ(apic.read(ApicRegister::ppr), 0x37u);
	apic.write(ApicRegister::tpr, 0x07);
	apic.post(0x6a);
	apic.take();
	EXPECT_EQ(apic.read(ApicRegister::ppr), 0x60u);
	apic.write(ApicRegister::tpr, 0x6c);
	EXPECT_EQ(apic.read(ApicRegister::ppr), 0x6cu);
	apic.write(ApicRegister::tpr, 0x75);
	EXPECT_EQ(apic.read(ApicRegister::ppr), 0x75u);
}

TEST(Lapic, EndOfInterruptSaysWhatToBroadcast)
{
	Apic apic;
	apic.enable();
	apic.post(0x50, true);
	apic.post(0x40, false);
	EXPECT_EQ(apic.take(), 0x50);
	auto effect = apic.write(ApicRegister::eoi, 0);
	ASSERT_EQ(effect.kind, Kind::eoi);
	EXPECT_EQ(effect.eoi.vector, 0x50);
	EXPECT_TRUE(effect.eoi.level && effect.eoi.broadcast);
	EXPECT_EQ(apic.take(), 0x40);
	effect = apic.write(ApicRegister::eoi, 0);
	ASSERT_EQ(effect.kind, Kind::eoi);
	EXPECT_FALSE(effect.eoi.level || effect.eoi.broadcast);
	EXPECT_EQ(apic.write(ApicRegister::eoi, 0).kind, Kind::none);
}

TEST(Lapic, TriggerModeFollowsTheLastMessage)
{
	Apic apic;
	apic.enable();
	apic.post(0x50, true);
	EXPECT_TRUE(apic->ended(0x50).level);
	EXPECT_EQ(apic.read(static_cast<ApicRegister>(0x180 + 0x20)), 1u << 16);
	apic.post(0x50, false);
	EXPECT_FALSE(apic->ended(0x50).level);
}

TEST(Lapic, ItsOwnInterruptsAreEdges)
{
	Apic apic;
	apic.enable();
	apic.post(0x50, true);
	EXPECT_EQ(apic.take(), 0x50);
	apic.eoi();
	apic.write(ApicRegister::icr, 0x44050);
	EXPECT_EQ(apic.take(), 0x50);
	EXPECT_FALSE(apic->end_of_interrupt()->level);
}

TEST(Lapic, DirectedEoiSuppressesTheBroadcast)
{
	Apic apic;
	apic->set_features({.directed_eoi = true});
	EXPECT_TRUE(apic.read(ApicRegister::version) & 1 << 24);
	apic.write(ApicRegister::svr, 0x11ff);
	EXPECT_EQ(apic.read(ApicRegister::svr), 0x11ffu);
	apic.post(0x50, true);
	apic.take();
	const auto ended = apic->end_of_interrupt();
	ASSERT_TRUE(ended);
	EXPECT_TRUE(ended->level);
	EXPECT_FALSE(ended->broadcast);
}

TEST(Lapic, DirectedEoiDoesNotExistUnlessTheMachineHasIt)
{
	Apic apic;
	EXPECT_FALSE(apic.read(ApicRegister::version) & 1 << 24);
	apic.write(ApicRegister::svr, 0x11ff);
	EXPECT_EQ(apic.read(ApicRegister::svr), 0x1ffu);
}

TEST(Lapic, EventsReachTheOwner)
{
	Apic apic;
	EXPECT_EQ(apic->accept({.delivery = Delivery::nmi}), 1);
	EXPECT_EQ(apic->accept({.delivery = Delivery::init}), 1);
	EXPECT_EQ(apic->accept({.vector = 0x9a, .delivery = Delivery::startup}), 1);
	EXPECT_TRUE(apic->attention());
	const auto events = apic->collect();
	EXPECT_TRUE(events.nmi && events.init && events.startup);
	EXPECT_EQ(events.startup_vector, 0x9a);
	EXPECT_FALSE(apic->attention());
	EXPECT_EQ(apic.wakes, 3u);
	const auto none = apic->collect();
	EXPECT_FALSE(none.nmi || none.init || none.startup);
}

TEST(Lapic, InitForgetsAnEarlierStartup)
{
	Apic apic;
	apic->accept({.vector = 0x9a, .delivery = Delivery::startup});
	apic->accept({.delivery = Delivery::init});
	const auto events = apic->collect();
	EXPECT_TRUE(events.init);
	EXPECT_FALSE(events.startup);
}

TEST(Lapic, TheFirstOfSeveralStartupsCounts)
{
	Apic apic;
	apic->accept({.vector = 0x10, .delivery = Delivery::startup});
	apic->accept({.vector = 0x2f, .delivery = Delivery::startup});
	EXPECT_EQ(apic->collect().startup_vector, 0x10);
}

TEST(Lapic, InitLevelDeassertIsIgnored)
{
	Apic apic;
	EXPECT_EQ(apic->accept({.delivery = Delivery::init, .level = true, .asserted = false}),
		delivery_ignored);
	EXPECT_FALSE(apic->collect().init);
	EXPECT_EQ(apic->accept({.delivery = Delivery::init, .level = true}), 1);
	EXPECT_TRUE(apic->collect().init);
}

TEST(Lapic, ALevelDeassertIsNoInterrupt)
{
	Apic apic;
	apic.enable();
	EXPECT_EQ(
		apic->accept({.vector = 0x40, .level = true, .asserted = false}), delivery_ignored);
	EXPECT_EQ(apic.pending(), 0);
	EXPECT_EQ(apic->accept({.vector = 0x40, .asserted = false}), 1) << "an edge has no level";
}

TEST(Lapic, ExtintAndRemoteReadAreIgnored)
{
	Apic apic;
	apic.enable();
	for (auto delivery : {Delivery::extint, Delivery::remote_read})
		EXPECT_EQ(apic->accept({.vector = 0x40, .delivery = delivery}), delivery_ignored);
	EXPECT_FALSE(apic->attention());
}

TEST(Lapic, AnSmiIsHandedOutOnce)
{
	Apic apic;
	apic.enable();
	EXPECT_EQ(apic->accept({.vector = 0, .delivery = Delivery::smi}), 1);
	EXPECT_TRUE(apic->attention());
	EXPECT_TRUE(apic->collect().smi);
	EXPECT_FALSE(apic->collect().smi);
	apic.write(ApicRegister::lvt_lint1, 0x200);
	EXPECT_TRUE(apic->local_interrupt(LocalSource::lint1));
	EXPECT_TRUE(apic->collect().smi);
}

TEST(Lapic, AnInitThatNobodyHasSeenCanBeForgotten)
{
	Apic apic;
	apic.enable();
	EXPECT_EQ(apic->accept({.delivery = Delivery::init}), 1);
	EXPECT_EQ(apic->accept({.delivery = Delivery::nmi}), 1);
	EXPECT_TRUE(apic->init_posted());
	apic->forget_init();
	EXPECT_FALSE(apic->init_posted());
	const auto events = apic->collect();
	EXPECT_TRUE(events.nmi && !events.init);
}

TEST(Lapic, AnIllegalVectorIsAnErrorAndNotAnInterrupt)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_error, 0xfe);
	for (unsigned vector = 0; vector < 16; ++vector)
		EXPECT_EQ(apic.post(vector), delivery_ignored);
	EXPECT_EQ(apic.take(), 0xfe);
	EXPECT_EQ(apic.read(ApicRegister::esr), 0u) << "shows only what was written out";
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 1u << 6);
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 0u);
	apic.eoi();
	EXPECT_EQ(apic.pending(), 0);
}

TEST(Lapic, AnErrorEntryWithAnIllegalVectorDoesNotRecurse)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_error, 0x05);
	apic.post(0x03);
	EXPECT_EQ(apic.pending(), 0);
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 1u << 6);
}

TEST(Lapic, LocalInterruptsFollowTheirEntry)
{
	Apic apic;
	apic.enable();
	EXPECT_FALSE(apic->local_interrupt(LocalSource::lint0)) << "masked by reset";
	apic.write(ApicRegister::lvt_lint0, 0x46);
	EXPECT_TRUE(apic->local_interrupt(LocalSource::lint0));
	EXPECT_EQ(apic.take(), 0x46);
	apic.write(ApicRegister::lvt_lint1, 0x400);
	EXPECT_TRUE(apic->local_interrupt(LocalSource::lint1));
	EXPECT_TRUE(apic->collect().nmi);
	apic.write(ApicRegister::lvt_lint0, 0x700);
	EXPECT_FALSE(apic->local_interrupt(LocalSource::lint0)) << "ExtINT is the PIC's";
	apic.write(ApicRegister::lvt_lint0, 0x600);
	EXPECT_FALSE(apic->local_interrupt(LocalSource::lint0)) << "no startup from a pin";
}

TEST(Lapic, APerformanceInterruptMasksItself)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_pmc, 0x400);
	EXPECT_TRUE(apic->local_interrupt(LocalSource::performance));
	EXPECT_FALSE(apic->local_interrupt(LocalSource::performance));
	EXPECT_EQ(apic.read(ApicRegister::lvt_pmc), 0x10400u);
}

TEST(Lapic, ThePicReachesTheProcessorThroughLint0OrWithoutApic)
{
	Apic apic;
	EXPECT_FALSE(apic->accepts_pic());
	apic->reset(false, true);
	EXPECT_FALSE(apic->accepts_pic()) << "the first processor's alone";
	apic->reset(true, false);
	EXPECT_FALSE(apic->accepts_pic());
	apic->reset(true, true);
	EXPECT_TRUE(apic->accepts_pic());
	apic.enable();
	apic.write(ApicRegister::lvt_lint0, 0x10700);
	EXPECT_FALSE(apic->accepts_pic());
	EXPECT_TRUE(apic->set_base(apic->base() & ~apic_base::enable, 36, false));
	EXPECT_TRUE(apic->accepts_pic());
}

TEST(Lapic, FindsWhatTheProcessorDidInThePage)
{
	Apic apic;
	apic.enable();
	apic.post(0x61);
	apic->share_with_processor(true);
	apic->collect();
	EXPECT_TRUE(apic->take_changed());
	EXPECT_FALSE(apic->take_changed());
	// Virtual-interrupt delivery moves it to ISR behind our back.
	auto *page = reinterpret_cast<u32 *>(apic->page().value);
	page[(0x200 + 0x30) / 4] = 0;
	page[(0x100 + 0x30) / 4] = 1 << 1;
	EXPECT_EQ(apic->highest_requested(), 0);
	EXPECT_EQ(apic->highest_in_service(), 0x61);
}

TEST(Lapic, NoPostFromOtherThreadsIsLost)
{
	constexpr unsigned senders = 3, rounds = 100;
	std::atomic<unsigned> woken{0};
	auto made = Lapic::create(
		1, {[](void *count) { ++*static_cast<std::atomic<unsigned> *>(count); }, &woken});
	ASSERT_TRUE(made.has_value());
	Lapic &lapic = **made;
	lapic.write_mmio(0xf0, 4, 0x1ff);
	std::atomic<unsigned> taken[256]{};
	// Each sender waits until its interrupt has been taken before it sends the next one.
	std::vector<std::thread> threads;
	for (unsigned sender = 0; sender < senders; ++sender)
		threads.emplace_back([&, vector = static_cast<u8>(0x30 + sender)] {
			for (unsigned round = 0; round < rounds; ++round) {
				lapic.accept({.vector = vector, .level = round % 2 == 0});
				while (taken[vector] == round)
					std::this_thread::sleep_for(std::chrono::microseconds{20});
			}
		});
	unsigned total = 0;
	while (total < senders * rounds) {
		if (!lapic.attention()) {
			std::this_thread::sleep_for(std::chrono::microseconds{20});
			continue;
		}
		lapic.collect();
		while (const auto vector = lapic.injectable()) {
			lapic.acknowledge(*vector);
			const auto ended = lapic.end_of_interrupt();
			EXPECT_EQ(ended->level, taken[*vector] % 2 == 0);
			++taken[*vector];
			++total;
		}
	}
	for (auto &thread : threads)
		thread.join();
	EXPECT_FALSE(lapic.attention());
	EXPECT_GT(woken, 0u);
	EXPECT_LE(woken, senders * rounds);
}

} // namespace kvmpp::tests
