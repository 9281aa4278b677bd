// SPDX-License-Identifier: GPL-2.0-only
// Threads of one VMM at once: vCPUs run while slots change, interrupts are raised, dirty bits are read
// and descriptors are closed. ThreadSanitizer looks at these (scripts/check).
#include <asm/kvm_para.h>
#include <chrono>
#include <thread>
#include "tests/core/running_vm.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using std::chrono::steady_clock;

// How long the threads go at each other.
const auto duration = std::chrono::milliseconds{400};

class Concurrency : public Machine {
protected:
	// Calls action() until the time is over.
	static std::thread repeat(std::function<void()> action)
	{
		return std::thread{[action = std::move(action)] {
			const auto end = steady_clock::now() + duration;
			while (steady_clock::now() < end)
				action();
		}};
	}
};

TEST_F(Concurrency, SlotsComeAndGo)
{
	RunningVm running;
	const sim::UserMemory more{16};
	auto changing = repeat([&] {
		EXPECT_EQ(running.vm.set_slot(1, 0x100000, more), 0);
		EXPECT_EQ(running.vm.set_slot(1, 0x200000, more), 0);
		EXPECT_EQ(running.vm.set_slot(1, 0, more.address(), 0), 0);
		// The one that the guests use.
		EXPECT_EQ(running.vm.set_slot(0, 0, running.ram.address(), 0), 0);
		EXPECT_EQ(running.vm.set_slot(0, 0, running.ram), 0);
	});
	changing.join();
}

TEST_F(Concurrency, TheVmmsMappingsChange)
{
	RunningVm running;
	auto changing = repeat([&] {
		running.ram.change(4, 8, sim::PageState::unmapped);
		running.ram.change(4, 8, sim::PageState::mapped);
		running.ram.change(0, 2, sim::PageState::read_only);
		(void)running.ram.young(0, 16, true);
		running.ram.change(0, 2, sim::PageState::mapped);
	});
	changing.join();
}

TEST_F(Concurrency, DirtyPagesAreCollectedWhileTheyAreWritten)
{
	RunningVm running;
	u64 seen = 0;
	auto collecting = repeat([&] {
		u64 bitmap = 0;
		const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
		EXPECT_EQ(running.vm.set_slot(0, 0, running.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
		for (unsigned i = 0; i < 4; ++i) {
			kvm_dirty_log log{};
			log.dirty_bitmap = &bitmap;
			EXPECT_EQ(running.vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
			seen |= bitmap;
		}
		EXPECT_EQ(running.vm.set_slot(0, 0, running.ram), 0);
	});
	collecting.join();
	EXPECT_EQ(seen, 0xffffu);
}

// As a VMM reads its guest's memory while that runs.
__attribute__((no_sanitize("thread"))) void copy_page(u8 *to, const u8 *from)
{
	for (u64 i = 0; i < page_size; ++i)
		to[i] = static_cast<const volatile u8 *>(from)[i];
}

// A copy that follows the rings alone is what the guests have written, to the last byte: with pages that are
// write-protected, and with the processor's log.
TEST_F(Concurrency, RingsAreResetWhileTheyFill)
{
	constexpr u64 bytes = 4 * page_size;
	for (const bool pml : {true, false}) {
		unload();
		sim::set_pml(pml);
		load();
		RunningVm running{false, busy_guest, bytes};
		std::vector<u8> copy(running.ram.size());
		std::vector<Ring> rings;
		for (const Vcpu &vcpu : running.vcpus)
			rings.emplace_back(vcpu, bytes);
		u64 total = 0;
		const auto collect = [&] {
			std::vector<Written> seen;
			for (Ring &ring : rings)
				for (const Written &page : ring.harvest())
					seen.push_back(page);
			EXPECT_EQ(running.vm.ioctl(KVM_RESET_DIRTY_RINGS), static_cast<long>(seen.size()));
			for (const Written &page : seen)
				copy_page(&copy[page.offset * page_size],
					running.ram.data() + page.offset * page_size);
			total += seen.size();
		};
		repeat(collect).join();
		running.join();
		collect();
		EXPECT_EQ(std::memcmp(copy.data(), running.ram.data(), copy.size()), 0) << pml;
		EXPECT_GT(total, 16u);
	}
}

// The same by the bitmap, of a slot that has been written before it was logged.
TEST_F(Concurrency, BitsAreTakenWhileTheyAreSet)
{
	for (const bool pml : {true, false}) {
		unload();
		sim::set_pml(pml);
		load();
		RunningVm running;
		std::vector<u8> copy(running.ram.size());
		EXPECT_EQ(running.vm.set_slot(0, 0, running.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
		for (u64 page = 0; page < 16; ++page)
			copy_page(&copy[page * page_size], running.ram.data() + page * page_size);
		const auto collect = [&] {
			u64 bitmap = 0;
			const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
			kvm_dirty_log log{};
			log.dirty_bitmap = &bitmap;
			EXPECT_EQ(running.vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
			for (u64 page = 0; page < 16; ++page)
				if (bitmap & bit(page))
					copy_page(&copy[page * page_size], running.ram.data() + page * page_size);
		};
		repeat(collect).join();
		running.join();
		collect();
		EXPECT_EQ(std::memcmp(copy.data(), running.ram.data(), copy.size()), 0) << pml;
	}
}

// Guests go into SMM and out of it while what they see there changes.
TEST_F(Concurrency, SmisComeWhileSmramChanges)
{
	constexpr u32 smm_slots = 1 << 16;
	constexpr u64 base = 0x30000, handler = 0x8000, changing = 0x80000;
	Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const sim::UserMemory ram{16}, smram[2]{sim::UserMemory{16}, sim::UserMemory{16}};
	sim::UserMemory more{16};
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	std::atomic<bool> stop{false};
	std::atomic<u64> handled{0};
	Vcpu vcpus[2];
	std::vector<std::thread> threads;
	const auto program = [&](u64 id) -> sim::GuestProgram {
		return [&, id, outside = busy_guest(stop, id), n = u64{0}](Guest &g) mutable -> GuestExit {
			if (stop || g.get(vmx::field::guest_rip) != handler)
				return outside(g);
			const u64 value = ++n;
			if (const auto exit = g.write(changing + n * 712 % 0x10000 + id, &value, 1))
				return *exit;
			++handled;
			auto exit = GuestExit::of(ExitReason::exception_or_nmi, 0, 2);
			exit.event = vmx::EventInfo::of(vmx::EventType::hardware_exception, 6);
			return exit;
		};
	};
	for (u64 id = 0; id < 2; ++id) {
		// Where the processors save their states is left alone.
		ASSERT_EQ(vm.set_slot(smm_slots | (2 + id), base + id * 0x10000, smram[id]), 0);
		smram[id].at<u16>(handler) = 0xaa0f; // rsm
		vcpus[id] = vm.create_vcpu(id);
		EXPECT_EQ(vcpus[id].set_supported_cpuid(), 0);
		vcpus[id].enter_protected_mode(0x1000);
		EXPECT_EQ(vcpus[id].set_msr(0x9e, base + id * 0x10000), 1);
		kvm_mp_state state{.mp_state = KVM_MP_STATE_RUNNABLE};
		EXPECT_EQ(vcpus[id].ioctl(KVM_SET_MP_STATE, &state), 0);
	}
	for (u64 id = 0; id < 2; ++id)
		threads.emplace_back([&, id] {
			sim::set_guest_program(program(id));
			while (!stop) {
				const long result = vcpus[id].run();
				EXPECT_TRUE(result == 0 || result == -EFAULT) << result;
			}
		});
	auto sending = repeat([&] {
		kvm_msi msi{};
		msi.address_lo = 0xfee00000 | 0xff << 12; // everybody
		msi.data = 2 << 8;
		EXPECT_EQ(vm.ioctl(KVM_SIGNAL_MSI, &msi), 2);
	});
	auto slots = repeat([&] {
		EXPECT_EQ(vm.set_slot(smm_slots | 1, changing, more, KVM_MEM_LOG_DIRTY_PAGES), 0);
		u64 bitmap = 0;
		const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
		kvm_dirty_log log{};
		log.slot = smm_slots | 1;
		log.dirty_bitmap = &bitmap;
		EXPECT_EQ(vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
		EXPECT_EQ(vm.set_slot(smm_slots | 1, changing, more.address(), 0), 0);
	});
	auto mappings = repeat([&] {
		more.change(4, 8, sim::PageState::unmapped);
		more.change(4, 8, sim::PageState::mapped);
		(void)more.young(0, 16, true);
	});
	sending.join();
	slots.join();
	mappings.join();
	stop = true;
	for (std::thread &thread : threads)
		thread.join();
	EXPECT_GT(handled.load(), 0u);
}

TEST_F(Concurrency, InterruptsAreRaisedFromEverywhere)
{
	RunningVm running{true};
	const Descriptor eventfd{sim::make_eventfd()};
	auto lines = repeat([&] {
		for (const u32 level : {1u, 0u}) {
			kvm_irq_level line{{5}, level};
			EXPECT_EQ(running.vm.ioctl(KVM_IRQ_LINE, &line), 0);
		}
		kvm_msi msi{};
		msi.address_lo = 0xfee00000;
		msi.data = 0x45;
		EXPECT_GE(running.vm.ioctl(KVM_SIGNAL_MSI, &msi), -1);
	});
	auto descriptors = repeat([&] {
		kvm_irqfd request{};
		request.fd = static_cast<u32>(eventfd.number());
		request.gsi = 7;
		EXPECT_EQ(running.vm.ioctl(KVM_IRQFD, &request), 0);
		sim::signal_eventfd(eventfd.number());
		request.flags = KVM_IRQFD_FLAG_DEASSIGN;
		EXPECT_EQ(running.vm.ioctl(KVM_IRQFD, &request), 0);
	});
	auto time = repeat([&] { sim::clock().advance(100'000); });
	lines.join();
	descriptors.join();
	time.join();
}

// Goes through the modes of its APIC, and reads the register that xAPIC mode has.
sim::GuestProgram mode_changer(std::atomic<bool> &stop, u64)
{
	return [&stop, n = 0u](Guest &g) mutable -> GuestExit {
		constexpr u64 modes[] = {0xfee00c00, 0xfee00000, 0xfee00800};
		if (stop)
			return GuestExit::of(ExitReason::triple_fault);
		g.set(vmx::field::guest_rip, 0x1000);
		if (++n % 8 == 0)
			return g.wrmsr(x86::msr::apic_base, modes[n / 8 % 3]);
		u32 version;
		if (const auto exit = g.read(0xfee00030, &version, sizeof(version)))
			return *exit;
		EXPECT_EQ(version & 0xff, 0x14u);
		return GuestExit::of(ExitReason::external_interrupt);
	};
}

// The simulated processor ends the test where a guest finds the page of the others' registers as memory.
TEST_F(Concurrency, ApicsChangeTheirModes)
{
	RunningVm running{true, mode_changer};
	std::this_thread::sleep_for(duration);
}

TEST_F(Concurrency, BusesChangeWhileTheyAreUsed)
{
	RunningVm running;
	const Descriptor eventfd{sim::make_eventfd()};
	auto changing = repeat([&] {
		kvm_ioeventfd request{};
		request.addr = 0x500;
		request.len = 1;
		request.fd = eventfd.number();
		request.flags = KVM_IOEVENTFD_FLAG_PIO;
		EXPECT_EQ(running.vm.ioctl(KVM_IOEVENTFD, &request), 0);
		request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
		EXPECT_EQ(running.vm.ioctl(KVM_IOEVENTFD, &request), 0);
	});
	changing.join();
}

TEST_F(Concurrency, ThreadsMoveBetweenCpus)
{
	sim::preempt_every(50);
	RunningVm running;
	auto others = repeat([&] {
		running.ram.change(4, 8, sim::PageState::unmapped);
		running.ram.change(4, 8, sim::PageState::mapped);
	});
	others.join();
	running.join();
	sim::preempt_every(0);
}

TEST_F(Concurrency, VmsComeAndGoBesideEachOther)
{
	RunningVm running;
	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 2; ++i)
		threads.push_back(repeat([] {
			const Guest32 guest;
			EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
		}));
	for (std::thread &thread : threads)
		thread.join();
}

TEST_F(Concurrency, OneVcpuUsedByManyThreads)
{
	RunningVm running;
	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 2; ++i)
		threads.push_back(repeat([&] {
			(void)running.vcpus[0].regs();
			(void)running.vcpus[0].sregs();
		}));
	// Each run holds the vCPU until the guest goes to the VMM.
	std::this_thread::sleep_for(duration / 4);
	running.stop = true;
	for (std::thread &thread : threads)
		thread.join();
}

TEST_F(Concurrency, SignalsEndRunsAndSleeps)
{
	Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const Vcpu vcpu = vm.create_vcpu();
	std::atomic<sim::Thread *> self{nullptr};
	std::atomic<unsigned> rounds{0};
	std::atomic<bool> no_more_signals{false};
	std::thread running{[&] {
		self = &sim::this_thread();
		// Halts with interrupts off: nothing but a signal ends that.
		sim::set_guest_program([](Guest &g) { return g.hlt(); });
		for (; rounds < 50; ++rounds) {
			EXPECT_EQ(vcpu.run(), -EINTR);
			sim::this_thread().signal = false;
		}
		while (!no_more_signals)
			std::this_thread::yield();
	}};
	while (rounds < 50) {
		if (sim::Thread *thread = self)
			sim::send_signal(*thread);
		std::this_thread::yield();
	}
	no_more_signals = true;
	running.join();
}

// Pages come while the guest touches them, hears of others, and switches that off and on.
TEST_F(Concurrency, PagesComeThatAGuestDoesNotWaitFor)
{
	constexpr u64 place = 0x3000, on = place | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT |
					   KVM_ASYNC_PF_SEND_ALWAYS;
	sim::UserMemory ram{16};
	std::atomic<bool> stop{false};
	std::atomic<u64> missed{0}, heard{0};
	const auto program = [&, n = u64{0}](Guest &g) mutable -> GuestExit {
		auto &told = ram.at<kvm_vcpu_pv_apf_data>(place);
		g.set(vmx::field::guest_rflags, g.get(vmx::field::guest_rflags) | X86_EFLAGS_IF);
		if (stop)
			return GuestExit::of(ExitReason::triple_fault);
		const auto event = g.delivered ? g.delivered->event.type() : vmx::EventType::software_interrupt;
		if (event == vmx::EventType::external_interrupt) {
			++heard;
			told.token = 0;
			return g.write_x2apic(0x80b, 0).value_or(GuestExit::of(ExitReason::external_interrupt));
		}
		if (event == vmx::EventType::hardware_exception) {
			++missed;
			told.flags = 0;
		}
		u8 value;
		switch (++n % 16) {
		case 0: return g.wrmsr(MSR_KVM_ASYNC_PF_EN, n % 256 ? on : 0);
		case 4:
		case 8: return g.wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
		default: break;
		}
		if (const auto exit = g.read(0x8000 + n * 316 % 0x8000, &value, 1))
			return *exit;
		return GuestExit::of(ExitReason::external_interrupt);
	};
	for (unsigned i = 0; i < 3; ++i) {
		stop = false;
		Vm vm;
		ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
		Vcpu vcpu = vm.create_vcpu();
		EXPECT_EQ(vcpu.set_supported_cpuid(), 0);
		vcpu.enter_long_mode(0x1000, 0x1000);
		EXPECT_EQ(vcpu.set_msr(0x1b, 0xfee00d00), 1);
		EXPECT_EQ(vcpu.set_msr(0x80f, 0x1ff), 1);
		EXPECT_EQ(vcpu.set_msr(0x835, 0x10000), 1);
		EXPECT_EQ(vcpu.set_msr(MSR_KVM_ASYNC_PF_INT, 0xec), 1);
		std::thread running{[&] { EXPECT_EQ(vcpu.run(program), 0); }};
		auto taking = repeat([&] { ram.change(8, 8, sim::PageState::away); });
		auto bringing = repeat([] { sim::finish_page_ins(1); });
		taking.join();
		stop = true;
		running.join();
		// The VM goes while pages are under way.
		vcpu.close();
		vm.close();
		bringing.join();
		sim::finish_page_ins();
	}
	EXPECT_GT(missed, 0u);
	EXPECT_GT(heard, 0u);
}

} // namespace
} // namespace kvmpp::tests
