// SPDX-License-Identifier: GPL-2.0-only
// Dirty logging with bitmaps, where the processor notes the pages that a guest writes, and where they are
// write-protected: both say the same.
#include <random>
#include <set>
#include <thread>
#include "machine/page_log.h"
#include "tests/core/machine.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace field = vmx::field;
using vmx::ExitReason;

constexpr u64 log_entries = machine::PageLog::entries;

// What the guest has met on its way.
struct Met {
	unsigned faults = 0, full = 0;
	bool log_on = false;
	u16 index = 0; // at the end of the last round
};

class PageLog : public Machine {
protected:
	PageLog() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		start(true);
	}
	void start(bool pml)
	{
		sim::set_pml(pml);
		load();
	}
};

struct Logged {
	explicit Logged(u64 pages, u32 flags = KVM_MEM_LOG_DIRTY_PAGES, unsigned shift = page_shift)
		: ram{pages, shift}
	{
		EXPECT_EQ(vm.set_slot(0, 0, ram, flags), 0);
		vcpu = vm.create_vcpu();
		EXPECT_EQ(vcpu.set_supported_cpuid(), 0);
		vcpu.enter_protected_mode(0x1000);
	}
	sim::GuestProgram writer(std::vector<u64> pages, u8 value, Met &met) const
	{
		return [=, &met, next = usize{0}](Guest &g) mutable -> GuestExit {
			met.log_on = g.get(field::secondary_controls) & vmx::secondary::pml;
			for (; next < pages.size(); ++next)
				if (const auto exit = g.write(pages[next] * page_size + 5, &value, 1)) {
					met.faults += exit->reason.basic() == ExitReason::ept_violation;
					met.full += exit->reason.basic() == ExitReason::pml_full;
					return *exit;
				}
			met.index = g.get(field::page_log_index);
			return g.out(0x80, 1, 0);
		};
	}
	Met write(const std::vector<u64> &pages, u8 value = 1) const
	{
		Met met;
		EXPECT_EQ(vcpu.run(writer(pages, value, met)), 0);
		return met;
	}
	Met write_all(u8 value = 1) const
	{
		std::vector<u64> all(ram.size() / page_size);
		for (u64 i = 0; i < all.size(); ++i)
			all[i] = i;
		return write(all, value);
	}
	// Pages by KVM_GET_DIRTY_LOG.
	std::set<u64> get(u32 slot = 0) const
	{
		std::vector<u64> words((ram.size() / page_size + 63) / 64);
		const sim::UserArgument memory{words.data(), words.size() * 8};
		kvm_dirty_log log{};
		log.slot = slot;
		log.dirty_bitmap = words.data();
		EXPECT_EQ(vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
		std::set<u64> pages;
		for (u64 i = 0; i < words.size() * 64; ++i)
			if (words[i / 64] & bit(i % 64))
				pages.insert(i);
		return pages;
	}
	void clear(const std::set<u64> &pages) const
	{
		std::vector<u64> words((ram.size() / page_size + 63) / 64);
		for (const u64 page : pages)
			words[page / 64] |= bit(page % 64);
		const sim::UserArgument memory{words.data(), words.size() * 8};
		kvm_clear_dirty_log request{};
		request.num_pages = static_cast<u32>(ram.size() / page_size);
		request.dirty_bitmap = words.data();
		EXPECT_EQ(vm.ioctl(KVM_CLEAR_DIRTY_LOG, &request), 0);
	}

	Vm vm;
	sim::UserMemory ram;
	Vcpu vcpu;
};

TEST_F(PageLog, SavesTheSecondFaultAndAnyOther)
{
	Logged logged{2000};
	EXPECT_EQ(logged.write_all().faults, 2000u);
	EXPECT_EQ(logged.get().size(), 2000u);
	// A full log exits, once for so many pages.
	const Met met = logged.write_all();
	EXPECT_EQ(met.faults, 0u);
	EXPECT_EQ(met.full, 2000u / log_entries);
	EXPECT_TRUE(met.log_on);
	EXPECT_EQ(logged.get().size(), 2000u);
	EXPECT_TRUE(logged.get().empty());
	logged.write({7, 1999, 7, 64});
	EXPECT_EQ(logged.get(), (std::set<u64>{7, 64, 1999}));
}

TEST_F(PageLog, PagesThatWereReadAreCleanAndWritable)
{
	Logged logged{16};
	EXPECT_EQ(logged.vcpu.run([](Guest &g) -> GuestExit {
		u8 value;
		const auto exit = g.read(0x3000, &value, 1);
		return exit ? *exit : g.out(0x80, 1, 0);
	}),
		0);
	EXPECT_TRUE(logged.get().empty());
	EXPECT_EQ(logged.write({3}).faults, 0u);
	EXPECT_EQ(logged.get(), std::set<u64>{3});
}

TEST_F(PageLog, IsOnWhileSomeSlotIsLogged)
{
	Logged logged{16, 0};
	const sim::UserMemory more{16};
	const auto on = [&] { return logged.write({}).log_on; };
	const auto more_is = [&](u32 flags) {
		EXPECT_EQ(logged.vm.set_slot(1, 0x100000, more, flags), 0);
		return on();
	};
	EXPECT_FALSE(on());
	EXPECT_FALSE(more_is(0));
	EXPECT_TRUE(more_is(KVM_MEM_LOG_DIRTY_PAGES));
	// What is not logged is not noted.
	logged.write({3, 4});
	EXPECT_EQ(logged.write({3, 4}).index, machine::PageLog::empty);
	EXPECT_FALSE(more_is(0));
	EXPECT_TRUE(more_is(KVM_MEM_LOG_DIRTY_PAGES));
	EXPECT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(logged.vm.set_slot(1, 0x200000, more), 0); // moved, and logged no longer
	EXPECT_TRUE(on());
	EXPECT_EQ(logged.vm.set_slot(0, 0, logged.ram.address(), 0), 0);
	EXPECT_FALSE(on());
	// A change that is refused changes nothing.
	EXPECT_EQ(logged.vm.set_slot(0, 0x200000, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), -EEXIST);
	EXPECT_FALSE(on());
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned) {
		const long result =
			logged.vm.set_slot(1, 0x200000, more, KVM_MEM_LOG_DIRTY_PAGES);
		EXPECT_EQ(on(), result == 0);
	});
	EXPECT_TRUE(on());
}

TEST_F(PageLog, IsNotUsedWhereItMustNot)
{
	const auto writes_fault = [] {
		Logged logged{16};
		logged.write_all();
		EXPECT_EQ(logged.get().size(), 16u);
		const Met met = logged.write_all();
		EXPECT_FALSE(met.log_on);
		EXPECT_EQ(met.faults, 16u);
	};
	unload();
	start(false);
	writes_fault();
	unload();
	// Without dirty flags there is nothing to note.
	const u64 ept = sim::cpu(0).msrs.at(x86::msr::vmx_ept_vpid);
	sim::set_msr_everywhere(x86::msr::vmx_ept_vpid, ept & ~bit(21));
	start(true);
	writes_fault();
	sim::set_msr_everywhere(x86::msr::vmx_ept_vpid, ept);
}

// SDM vol. 3, 28.2.3: the log may be full for an IRET that has unblocked NMIs already.
TEST_F(PageLog, AFullOneInAnNmiHandler)
{
	Logged logged{16};
	std::vector<u32> blocked;
	const auto full = [](Guest &) { return GuestExit::of(ExitReason::pml_full, 1 << 12); };
	const auto look = [&](Guest &g) {
		blocked.push_back(g.get(field::guest_interruptibility) & vmx::blocking::nmi);
		return g.out(0x80, 1, 0);
	};
	EXPECT_EQ(logged.vcpu.run(sim::in_turn({full, look})), 0);
	EXPECT_EQ(blocked, std::vector<u32>{vmx::blocking::nmi});
}

// A vCPU that has written and goes on running, as long as nobody takes it out of its guest.
class Running {
public:
	Running(const Logged &logged, std::vector<u64> pages)
		: thread_{[this, &logged, pages] {
			  Met met;
			  auto write = logged.writer(pages, 9, met);
			  sim::set_guest_program([this, write, done = false](Guest &g) mutable -> GuestExit {
				  if (stop_)
					  return g.out(0x80, 1, 0);
				  if (!done) {
					  const GuestExit exit = write(g);
					  if (exit.reason.basic() != ExitReason::io_instruction)
						  return exit;
					  done = true;
					  written_ = true;
				  }
				  return g.spin();
			  });
			  EXPECT_EQ(logged.vcpu.run(), 0);
		  }}
	{
		while (!written_)
			std::this_thread::yield();
	}
	// It leaves when it is taken out once more.
	template <class Last>
	void finish(Last &&last)
	{
		stop_ = true;
		last();
		thread_.join();
	}

private:
	std::atomic<bool> written_{false}, stop_{false};
	std::thread thread_;
};

TEST_F(PageLog, HoldsNothingBackFromTheVmm)
{
	Logged logged{64};
	logged.write_all();
	logged.get();
	Running running{logged, {3, 50}};
	EXPECT_EQ(logged.get(), (std::set<u64>{3, 50}));
	running.finish([&] { EXPECT_EQ(logged.get(), std::set<u64>{}); });
}

// What was written at the old place is the slot's at the new one.
TEST_F(PageLog, SlotsThatMoveTakeTheirPagesWithThem)
{
	Logged logged{64};
	logged.write_all();
	logged.get();
	Running running{logged, {3, 50}};
	running.finish(
		[&] { EXPECT_EQ(logged.vm.set_slot(0, 0x4000000, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0); });
	EXPECT_EQ(logged.get(), (std::set<u64>{3, 50}));
}

// One vCPU is in its guest when logging begins, another brings in a page by reading it, and the first one writes
// it: it must have been told by then.
TEST_F(PageLog, ReachesVcpusThatAreInTheirGuests)
{
	Logged logged{64, 0};
	const Vcpu reader = logged.vm.create_vcpu(1);
	reader.enter_protected_mode(0x1000);
	std::atomic<bool> inside{false}, go{false};
	std::thread writer{[&] {
		EXPECT_EQ(logged.vcpu.run([&](Guest &g) -> GuestExit {
			inside = true;
			while (!go) {
				if (g.cpu.interrupted())
					return GuestExit::of(ExitReason::external_interrupt);
				std::this_thread::yield();
			}
			u8 value = 1;
			const auto exit = g.write(0x3000, &value, 1);
			return exit ? *exit : g.out(0x80, 1, 0);
		}),
			0);
	}};
	while (!inside)
		std::this_thread::yield();
	EXPECT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(reader.run([](Guest &g) -> GuestExit {
		u8 value;
		const auto exit = g.read(0x3000, &value, 1);
		return exit ? *exit : g.out(0x80, 1, 0);
	}),
		0);
	go = true;
	writer.join();
	EXPECT_EQ(logged.get(), std::set<u64>{3});
}

// The VMM keeps a copy of the guest's memory by what the bitmaps say, and by nothing else.
class DirtyCopy : public Machine, public testing::WithParamInterface<bool> {
protected:
	DirtyCopy() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		sim::set_pml(GetParam());
		load();
	}
	void compare(const Logged &logged, bool manual)
	{
		const u64 pages = logged.ram.size() / page_size;
		std::mt19937 random{3};
		std::vector<u8> copy(logged.ram.size());
		u64 total = 0;
		const auto collect = [&] {
			const auto dirty = logged.get();
			if (manual)
				logged.clear(dirty);
			for (const u64 page : dirty)
				std::memcpy(&copy[page * page_size], logged.ram.data() + page * page_size,
					page_size);
			total += dirty.size();
		};
		for (unsigned round = 0; round < 300; ++round) {
			std::vector<u64> writes(random() % 100);
			const u64 around = random() % pages;
			for (u64 &page : writes)
				page = random() % 3 ? (around + random() % 8) % pages : random() % pages;
			logged.write(writes, static_cast<u8>(random()));
			// Memory that the VMM's host takes away comes back clean, but is not forgotten.
			if (random() % 8 == 0)
				take_away(logged, random() % pages);
			if (random() % 3)
				collect();
			if (random() % 16 == 0) {
				EXPECT_EQ(logged.vm.set_slot(0, 0, logged.ram), 0);
				logged.write(writes, static_cast<u8>(random()));
				EXPECT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
				std::memcpy(copy.data(), logged.ram.data(), copy.size());
			}
		}
		collect();
		EXPECT_EQ(std::memcmp(copy.data(), logged.ram.data(), copy.size()), 0);
		EXPECT_GT(total, 2000u);
	}
	static void take_away(const Logged &logged, u64 page)
	{
		auto &ram = const_cast<sim::UserMemory &>(logged.ram);
		ram.change(page, 1, sim::PageState::unmapped);
		ram.change(page, 1, sim::PageState::mapped);
	}
};

INSTANTIATE_TEST_SUITE_P(By, DirtyCopy, testing::Bool(),
	[](const auto &which) { return which.param ? "PageLog" : "WriteProtection"; });

TEST_P(DirtyCopy, OfSmallPages)
{
	compare(Logged{300}, false);
}

TEST_P(DirtyCopy, OfLargePages)
{
	compare(Logged{1024, KVM_MEM_LOG_DIRTY_PAGES, 21}, false);
}

TEST_P(DirtyCopy, ThatClearsByItself)
{
	Logged logged{300, 0};
	kvm_enable_cap manual{};
	manual.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
	manual.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	ASSERT_EQ(logged.vm.ioctl(KVM_ENABLE_CAP, &manual), 0);
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	compare(logged, true);
}

} // namespace
} // namespace kvmpp::tests
