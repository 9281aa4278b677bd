// SPDX-License-Identifier: GPL-2.0-only
// Dirty rings: who may have them, what is in them and when, and VMMs that write to them what they like.
#include "tests/core/dirty_ring.h"

#include <algorithm>
#include <random>

namespace kvmpp::tests
{
namespace
{

// With pages that are write-protected, and with the processor's log.
class DirtyRings : public Machine, public testing::WithParamInterface<bool> {
protected:
	DirtyRings() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		sim::set_pml(GetParam());
		load();
	}
};

INSTANTIATE_TEST_SUITE_P(By, DirtyRings, testing::Bool(),
	[](const auto &which) { return which.param ? "PageLog" : "WriteProtection"; });

constexpr u64 small = 4 * page_size, small_entries = small / sizeof(kvm_dirty_gfn);
constexpr u32 system_time = 0x4b564d01, wall_clock = 0x4b564d00;

// A VM with one vCPU in flat protected mode, and RAM from 0 on that is logged.
struct Logged {
	explicit Logged(u64 pages = 16, u64 bytes = small, unsigned shift = page_shift) : ram{pages, shift}
	{
		EXPECT_EQ(use_rings(vm, bytes), 0);
		EXPECT_EQ(vm.set_slot(0, 0, ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
		vcpu = vm.create_vcpu();
		EXPECT_EQ(vcpu.set_supported_cpuid(), 0);
		vcpu.enter_protected_mode(0x1000);
		ring.emplace(vcpu, bytes);
	}
	// The guest writes a byte of each of these pages, and leaves. What KVM_RUN says.
	long write(std::vector<u64> pages, u8 value = 1) const
	{
		return vcpu.run([pages, value, next = usize{0}](Guest &g) mutable -> GuestExit {
			for (; next < pages.size(); ++next)
				if (const auto exit = g.write(pages[next] * page_size + 5, &value, 1))
					return *exit;
			return g.out(0x80, 1, 0);
		});
	}
	bool full() const { return vcpu.shared().exit_reason == KVM_EXIT_DIRTY_RING_FULL; }
	long reset() const { return vm.ioctl(KVM_RESET_DIRTY_RINGS); }

	Vm vm;
	sim::UserMemory ram;
	Vcpu vcpu;
	std::optional<Ring> ring;
};

// Exits that are answered at once do not keep the VMM from what it has to take out before more is written.
TEST_P(DirtyRings, AGuestWithShortExitsIsStoppedInTime)
{
	constexpr u64 pages = 1200, between = 100;
	Logged logged{pages};
	// With everything mapped the processor's log is all that notes a write.
	ASSERT_EQ(logged.vcpu.run([next = u64{0}](Guest &g) mutable -> GuestExit {
		u8 value;
		for (; next < pages; ++next)
			if (const auto exit = g.read(next * page_size, &value, 1))
				return *exit;
		return g.out(0x80, 1, 0);
	}), 0);

	std::vector<u64> seen;
	const auto collect = [&] {
		for (const Written &written : logged.ring->harvest())
			seen.push_back(written.offset);
		EXPECT_GE(logged.reset(), 0);
	};
	u64 next = 0, since_exit = 0;
	const auto writes = [&](Guest &g) -> GuestExit {
		const u8 value = 1;
		for (; next < pages; ++next, ++since_exit) {
			if (since_exit == between) {
				since_exit = 0;
				return g.cpuid(0);
			}
			if (const auto exit = g.write(next * page_size, &value, 1))
				return *exit;
		}
		return g.out(0x80, 1, 0);
	};
	bool was_full = false;
	do {
		ASSERT_EQ(logged.vcpu.run(writes), 0);
		was_full |= logged.full();
		collect();
	} while (logged.full());
	EXPECT_TRUE(was_full);
	std::ranges::sort(seen);
	seen.erase(std::ranges::unique(seen).begin(), seen.end());
	EXPECT_EQ(seen.size(), pages);
}

TEST_P(DirtyRings, WhoMayHaveThem)
{
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING), 65536 * 16);
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 65536 * 16);
	const Vm vm;
	EXPECT_EQ(vm.ioctl(KVM_RESET_DIRTY_RINGS), -EINVAL);
	for (const u64 size : {u64{0}, u64{1}, page_size - 1, page_size / 2, 3 * page_size, ~u64{0}})
		EXPECT_EQ(use_rings(vm, size), -EINVAL) << size;
	// What the processor has logged must find room, too.
	EXPECT_EQ(use_rings(Vm{}, page_size), GetParam() ? -EINVAL : 0);
	EXPECT_EQ(use_rings(Vm{}, 2 * page_size), GetParam() ? -EINVAL : 0);
	EXPECT_EQ(use_rings(vm, 1ull << 21), -E2BIG);
	EXPECT_EQ(use_rings(vm, 1ull << 63), -E2BIG);
	ASSERT_EQ(use_rings(vm, 1ull << 20, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 0);
	EXPECT_EQ(use_rings(vm, 1ull << 20), -EINVAL); // once
	EXPECT_EQ(vm.ioctl(KVM_RESET_DIRTY_RINGS), 0);

	const Vm late;
	const Vcpu vcpu = late.create_vcpu();
	EXPECT_EQ(use_rings(late, small), -EINVAL);
	EXPECT_FALSE(sim::mapped_page(vcpu.fd(), KVM_DIRTY_LOG_PAGE_OFFSET));
	EXPECT_TRUE(sim::may_map_private(vcpu.fd(), 0, 1000));
}

TEST_P(DirtyRings, TakeThePlaceOfBitmaps)
{
	Logged logged;
	u64 bitmap = 0;
	const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
	kvm_dirty_log log{};
	log.dirty_bitmap = &bitmap;
	EXPECT_EQ(logged.vm.ioctl(KVM_GET_DIRTY_LOG, &log), -ENXIO);
	log.slot = ~0u;
	EXPECT_EQ(logged.vm.ioctl(KVM_GET_DIRTY_LOG, &log), -ENXIO);
	kvm_clear_dirty_log clear{};
	clear.num_pages = 16;
	clear.dirty_bitmap = &bitmap;
	EXPECT_EQ(logged.vm.ioctl(KVM_CLEAR_DIRTY_LOG, &clear), -ENXIO);
}

TEST_P(DirtyRings, AreMappedFromTheVcpu)
{
	Logged logged;
	const int fd = logged.vcpu.fd();
	EXPECT_TRUE(sim::mapped_page(fd, KVM_DIRTY_LOG_PAGE_OFFSET + 3));
	EXPECT_FALSE(sim::mapped_page(fd, KVM_DIRTY_LOG_PAGE_OFFSET + 4));
	EXPECT_FALSE(sim::mapped_page(fd, KVM_DIRTY_LOG_PAGE_OFFSET - 1));
	EXPECT_FALSE(sim::mapped_page(fd, ~0ul));
	EXPECT_TRUE(sim::may_map_private(fd, 0, KVM_DIRTY_LOG_PAGE_OFFSET));
	EXPECT_FALSE(sim::may_map_private(fd, 0, KVM_DIRTY_LOG_PAGE_OFFSET + 1));
	EXPECT_FALSE(sim::may_map_private(fd, KVM_DIRTY_LOG_PAGE_OFFSET + 3, 100));
	EXPECT_TRUE(sim::may_map_private(fd, KVM_DIRTY_LOG_PAGE_OFFSET + 4, 100));
}

TEST_P(DirtyRings, NoteWhatWasWritten)
{
	Logged logged;
	Ring &ring = *logged.ring;
	ASSERT_EQ(logged.write({3, 5, 3}), 0);
	EXPECT_EQ(logged.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(logged.reset(), 0); // nothing was seen yet
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 3}, {0, 5}}));
	// It stays writable until the reset, and one entry stands for all.
	ASSERT_EQ(logged.write({3, 5}), 0);
	EXPECT_EQ(ring.harvest(), std::vector<Written>{});
	EXPECT_EQ(logged.reset(), 2);
	EXPECT_EQ(logged.reset(), 0);
	EXPECT_EQ(ring.at(0).flags | ring.at(1).flags, 0u);
	ASSERT_EQ(logged.write({5, 3, 7}), 0);
	EXPECT_EQ(ring.harvest(1), (std::vector<Written>{{0, 5}}));
	EXPECT_EQ(logged.reset(), 1);
	ASSERT_EQ(logged.write({3, 7, 5}), 0);
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 3}, {0, 7}, {0, 5}}));
	EXPECT_EQ(logged.reset(), 3);
	// No longer logged, nothing is noted.
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram), 0);
	ASSERT_EQ(logged.write({3, 7, 5}), 0);
	EXPECT_EQ(ring.harvest(), std::vector<Written>{});
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(logged.write({7}), 0);
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 7}}));
}

// Bits that all start set are a bitmap's: a ring would never hear of those pages.
TEST_P(DirtyRings, DoNotStartWithAllPages)
{
	const Vm vm;
	ASSERT_EQ(use_rings(vm, small), 0);
	kvm_enable_cap manual{};
	manual.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
	manual.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	ASSERT_EQ(vm.ioctl(KVM_ENABLE_CAP, &manual), 0);
	const sim::UserMemory ram{16};
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	const Vcpu vcpu = vm.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	const auto program = [](Guest &g) -> GuestExit {
		u8 value = 1;
		const auto exit = g.write(0x3000, &value, 1);
		return exit ? *exit : g.out(0x80, 1, 0);
	};
	ASSERT_EQ(vcpu.run(program), 0);
	ASSERT_EQ(vm.set_slot(0, 0, ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(vcpu.run(program), 0);
	EXPECT_EQ(Ring(vcpu, small).harvest(), (std::vector<Written>{{0, 3}}));
}

TEST_P(DirtyRings, LargePagesAreWrittenInSmallOnes)
{
	Logged logged{1024, small, 21};
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram), 0);
	ASSERT_EQ(logged.write({0, 512}), 0);
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(logged.write({1, 2, 513, 1023}), 0);
	EXPECT_EQ(logged.ring->harvest(), (std::vector<Written>{{0, 1}, {0, 2}, {0, 513}, {0, 1023}}));
	EXPECT_EQ(logged.reset(), 4);
}

TEST_P(DirtyRings, AFullOneExitsBeforeTheGuestGoesOn)
{
	Logged logged{4096};
	std::vector<u64> all(4096);
	for (u64 i = 0; i < all.size(); ++i)
		all[i] = i;
	std::vector<Written> seen;
	const auto harvest = [&] {
		const auto some = logged.ring->harvest();
		seen.insert(seen.end(), some.begin(), some.end());
		return some.size();
	};
	ASSERT_EQ(logged.write(all), 0);
	ASSERT_TRUE(logged.full());
	// As long as nobody makes room the guest does not go on.
	ASSERT_EQ(logged.vcpu.run(), 0);
	ASSERT_TRUE(logged.full());
	unsigned exits = 1;
	for (; logged.full() && exits < 100; ++exits) {
		const auto count = harvest();
		ASSERT_GT(count, 0u);
		ASSERT_LT(count, small_entries);
		// Seen is not reset.
		ASSERT_EQ(logged.vcpu.run(), 0);
		ASSERT_TRUE(logged.full());
		ASSERT_EQ(logged.reset(), static_cast<long>(count));
		ASSERT_EQ(logged.vcpu.run(), 0);
	}
	harvest();
	EXPECT_GT(exits, 3u);
	// A page whose write the full ring has kept from happening is noted once more when it happens.
	seen.erase(std::ranges::unique(seen).begin(), seen.end());
	ASSERT_EQ(seen.size(), all.size());
	for (const u64 page : all)
		EXPECT_EQ(seen[page], (Written{0, page}));
	EXPECT_EQ(logged.ram.at<u8>(4095 * page_size + 5), 1);
}

// What software writes for a guest: instructions that are emulated, and pages that the guest has named.
TEST_P(DirtyRings, NoteWhatSoftwareWrites)
{
	Logged logged;
	Ring &ring = *logged.ring;
	ASSERT_EQ(logged.vcpu.set_msr(system_time, 0x9001), 1);
	ASSERT_EQ(logged.write({}), 0);
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 9}}));
	EXPECT_EQ(logged.reset(), 1);
	ASSERT_EQ(logged.vcpu.set_msr(wall_clock, 0xb000), 1);
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 11}}));
	// As often as the VMM likes.
	kvm_clock_data clock{};
	for (unsigned i = 0; i < 2 * small_entries; ++i)
		ASSERT_EQ(logged.vm.ioctl(KVM_SET_CLOCK, &clock), 0);
	EXPECT_EQ(ring.harvest(), (std::vector<Written>{{0, 9}}));
	EXPECT_EQ(logged.reset(), 2);
	EXPECT_GT(logged.ram.at<u32>(0x9000), 2 * small_entries);
}

// An instruction that reads a device and writes to RAM, through page tables of the guest's.
TEST_P(DirtyRings, NoteWhatTheEmulatorWrites)
{
	Logged logged;
	constexpr u64 all = 7, large = 1 << 7;
	logged.ram.at<u64>(0x4000) = 0x5000 | all;
	logged.ram.at<u64>(0x5000) = all | large;
	logged.ram.at<u64>(0x5000 + 3 * 8) = 0xc0000000 | all | large;
	logged.ram.at<u8>(0x1000) = 0xa4; // movs [rdi], [rsi]
	logged.vcpu.enter_long_mode(0x1000, 0x4000);
	const auto program = [](Guest &g) {
		g.gprs[x86::Gpr::rsi] = 0xd0000000;
		g.gprs[x86::Gpr::rdi] = 0x7000;
		GuestExit exit = GuestExit::of(vmx::ExitReason::ept_violation, 1 | 3 << 7);
		exit.guest_physical = 0xd0000000;
		return exit;
	};
	ASSERT_EQ(logged.vcpu.run(program), 0);
	ASSERT_EQ(logged.vcpu.shared().exit_reason, u32{KVM_EXIT_MMIO});
	logged.vcpu.shared().mmio.data[0] = 0x77;
	ASSERT_EQ(logged.vcpu.run([](Guest &g) { return g.out(0x80, 1, 0); }), 0);
	EXPECT_EQ(logged.ram.at<u8>(0x7000), 0x77);
	const auto seen = logged.ring->harvest();
	for (const u64 page : {4, 5, 7})
		EXPECT_EQ(std::ranges::count(seen, Written{0, page}), 1) << page;
	EXPECT_EQ(seen.size(), 3u);
}

// A write that there is no room to note is not made.
TEST_P(DirtyRings, WithoutRoomNothingIsWritten)
{
	Logged logged{2048};
	unsigned written = 0;
	for (u64 page = 16; page < 2048; ++page) {
		ASSERT_EQ(logged.vcpu.set_msr(wall_clock, page * page_size), 1);
		written += logged.ram.at<u32>(page * page_size + 4) != 0;
	}
	EXPECT_EQ(written, small_entries - 1); // of the last one the version
	const auto seen = logged.ring->harvest();
	ASSERT_EQ(seen.size(), small_entries);
	for (u64 i = 0; i < seen.size(); ++i)
		EXPECT_EQ(seen[i], (Written{0, 16 + i}));
	ASSERT_EQ(logged.write({1}), 0);
	EXPECT_TRUE(logged.full());
	EXPECT_EQ(logged.reset(), static_cast<long>(small_entries));
	ASSERT_EQ(logged.write({1}), 0);
	EXPECT_EQ(logged.ring->harvest(), (std::vector<Written>{{0, 1}}));
}

TEST_P(DirtyRings, VmmsThatWriteToThemWhatTheyLike)
{
	Logged logged{100};
	Ring &ring = *logged.ring;
	const sim::UserMemory other{16};
	ASSERT_EQ(logged.vm.set_slot(1, 0x1000000, other), 0); // not logged
	const auto spoil = [&](u32 flags, u32 slot, u64 offset) {
		for (u64 i = 0; i < ring.entries(); ++i)
			ring.at(i) = {flags, slot, offset};
	};
	constexpr u32 seen = KVM_DIRTY_GFN_F_RESET;
	spoil(seen, 0, 3);
	EXPECT_EQ(logged.reset(), 0); // there is none
	spoil(~0u, ~0u, ~0ull);
	EXPECT_EQ(logged.reset(), 0);
	const u32 slots[] = {0, 1, 2, 32763, 32764, 0xffff, 1 << 16, 2 << 16, ~0u};
	const u64 offsets[] = {0, 1, 63, 64, 95, 99, 100, 127, 128, 1ull << 31, 1ull << 52, 1ull << 58, ~63ull, ~0ull};
	u64 entries = 0;
	for (const u32 slot : slots)
		for (const u64 offset : offsets) {
			// 1 is protected by the last reset; 2 may be.
			ASSERT_EQ(logged.write({1, 2}), 0);
			ASSERT_FALSE(logged.full());
			spoil(seen, slot, offset);
			const long reset = logged.reset();
			EXPECT_LE(reset, 2);
			entries += reset;
			// What it says of the pages is its own affair, but the next one is right again.
			ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram), 0);
			ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
		}
	EXPECT_EQ(entries, 2 * std::size(slots) * std::size(offsets));
	// One that says it has seen nothing is full in the end, and that is all.
	for (unsigned i = 0; i < 40 && !logged.full(); ++i) {
		std::vector<u64> pages(100);
		for (u64 page = 0; page < 100; ++page)
			pages[page] = page;
		ASSERT_EQ(logged.write(pages), 0);
		spoil(0, 0, 0);
		ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram), 0);
		ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	}
	EXPECT_TRUE(logged.full());
	EXPECT_EQ(logged.reset(), 0);
}

// Seen entries of a slot that is gone, or is another by now.
TEST_P(DirtyRings, OutliveTheirSlots)
{
	Logged logged{100};
	ASSERT_EQ(logged.write({98, 99}), 0);
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram.address(), 0), 0);
	EXPECT_EQ(logged.ring->harvest(), (std::vector<Written>{{0, 98}, {0, 99}}));
	EXPECT_EQ(logged.reset(), 2);
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(logged.write({98, 99}), 0);
	EXPECT_EQ(logged.ring->harvest(), (std::vector<Written>{{0, 98}, {0, 99}}));
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram.address(), 0), 0);
	ASSERT_EQ(logged.vm.set_slot(0, 0, logged.ram.address(), 4 * page_size, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(logged.reset(), 2);
}

TEST_P(DirtyRings, NoMemoryForOne)
{
	const Vm vm;
	ASSERT_EQ(use_rings(vm, small), 0);
	unsigned made = 0;
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned n) {
		const long vcpu = vm.ioctl(KVM_CREATE_VCPU, u64{n});
		made += vcpu >= 0;
		if (vcpu >= 0)
			sim::close(static_cast<int>(vcpu));
		else
			EXPECT_EQ(vcpu, -ENOMEM);
	});
	EXPECT_EQ(made, 1u);
}

// The VMM keeps a copy of the guest's memory by what the rings say, and by nothing else.
TEST_P(DirtyRings, ACopyKeptByThemIsExact)
{
	constexpr u64 pages = 300;
	std::mt19937 random{7};
	Logged logged{pages};
	std::vector<u8> copy(pages * page_size);
	u64 total = 0;
	for (unsigned round = 0; round < 400; ++round) {
		std::vector<u64> writes(random() % 120);
		const u64 around = random() % pages;
		for (u64 &page : writes)
			page = random() % 3 ? (around + random() % 8) % pages : random() % pages;
		ASSERT_EQ(logged.write(writes, static_cast<u8>(random())), 0);
		do {
			const auto seen = logged.ring->harvest(random() % 4 ? ~0ull : random() % 16);
			ASSERT_EQ(logged.reset(), static_cast<long>(seen.size()));
			for (const Written &page : seen)
				std::memcpy(&copy[page.offset * page_size],
					logged.ram.data() + page.offset * page_size, page_size);
			total += seen.size();
		} while (logged.full() && logged.vcpu.run() == 0);
	}
	for (const Written &page : logged.ring->harvest())
		std::memcpy(&copy[page.offset * page_size], logged.ram.data() + page.offset * page_size,
			page_size);
	EXPECT_EQ(std::memcmp(copy.data(), logged.ram.data(), copy.size()), 0);
	EXPECT_GT(total, 5000u);
}

} // namespace
} // namespace kvmpp::tests
