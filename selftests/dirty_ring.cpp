// SPDX-License-Identifier: GPL-2.0-only
// Dirty rings as a VMM has them: who may have them, how they are mapped, what is in them and when, and
// VMMs that write to them what they like. KVM API, 8.29.
#include <atomic>
#include <bitset>
#include <cerrno>
#include <sys/mman.h>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

constexpr u64 ring_bytes = Guest::dirty_ring_bytes, ring_entries = ring_bytes / sizeof(kvm_dirty_gfn);
constexpr u64 ram_base = 0x400000, ram_pages = 2048;
constexpr u32 ram_slot = 3;
using Pages = std::bitset<ram_pages>;

// Writes AL to RCX pages from RBX on, and then to a port.
GUEST_CODE(writes_pages, 64, R"(
1:	mov %rbx, %rdi
	mov %rcx, %rsi
2:	test %rsi, %rsi
	jz 3f
	mov %al, (%rdi)
	add $0x1000, %rdi
	dec %rsi
	jmp 2b
3:	out %al, $0x10
	jmp 1b
)");

int use_rings(const Vm &vm, u64 bytes, u32 capability = KVM_CAP_DIRTY_LOG_RING)
{
	kvm_enable_cap request{};
	request.cap = capability;
	request.args[0] = bytes;
	return vm.call(KVM_ENABLE_CAP, &request);
}

// A guest beside RAM that is logged.
class Logged : public Guest {
public:
	Logged() : Guest{Mode::long_mode, writes_pages, with_dirty_rings}
	{
		REQUIRE_EQ(log(), 0);
		void *mapped = map(PROT_READ | PROT_WRITE, MAP_SHARED);
		REQUIRE(mapped != MAP_FAILED);
		ring = static_cast<kvm_dirty_gfn *>(mapped);
	}
	~Logged() { munmap(ring, ring_bytes); }

	int log() const
	{
		return vm.set_slot(ram_slot, ram_base, ram.size(), ram.bytes(), KVM_MEM_LOG_DIRTY_PAGES);
	}
	void *map(int protection, int flags, u64 bytes = ring_bytes) const
	{
		return mmap(nullptr, bytes, protection, flags, vcpu.number(), KVM_DIRTY_LOG_PAGE_OFFSET * page);
	}
	// What the guest writes next, and where.
	void prepare(u64 first, u64 count, u8 value) const
	{
		kvm_regs regs = vcpu.regs();
		regs.rbx = ram_base + first * page;
		regs.rcx = count;
		regs.rax = value;
		regs.rip = at::code;
		vcpu.set(regs);
	}
	void write(u64 first, u64 count, u8 value)
	{
		prepare(first, count, value);
		run_to_out(0x10);
	}
	// Says that it has seen what is new; how many entries that were.
	u64 harvest(Pages &pages)
	{
		u64 count = 0;
		for (;; ++count, ++next_) {
			kvm_dirty_gfn &entry = ring[next_ % ring_entries];
			std::atomic_ref flags{entry.flags};
			if (flags.load(std::memory_order_acquire) != KVM_DIRTY_GFN_F_DIRTY)
				return count;
			CHECK_EQ(entry.slot, ram_slot);
			REQUIRE(entry.offset < ram_pages);
			pages.set(entry.offset);
			flags.store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
		}
	}
	// Says that it has seen something else altogether.
	u64 spoil(u32 slot, u64 offset)
	{
		u64 count = 0;
		for (; ring[next_ % ring_entries].flags == KVM_DIRTY_GFN_F_DIRTY; ++count, ++next_)
			ring[next_ % ring_entries] = {~0u & ~KVM_DIRTY_GFN_F_DIRTY, slot, offset};
		return count;
	}
	int reset() const { return vm.call(KVM_RESET_DIRTY_RINGS); }
	// Harvests and resets.
	Pages collect()
	{
		Pages pages;
		const u64 count = harvest(pages);
		CHECK_EQ(reset(), count);
		return pages;
	}

	Backing ram{ram_pages * page};
	kvm_dirty_gfn *ring;

private:
	u64 next_ = 0;
};

Pages range(u64 first, u64 count)
{
	Pages pages;
	for (u64 i = 0; i < count; ++i)
		pages.set(first + i);
	return pages;
}

} // namespace

TEST(who_may_have_them)
{
	System system;
	NEED(system, KVM_CAP_DIRTY_LOG_RING);
	CHECK_EQ(system.extension(KVM_CAP_DIRTY_LOG_RING), 65536 * sizeof(kvm_dirty_gfn));
	CHECK_EQ(system.extension(KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 65536 * sizeof(kvm_dirty_gfn));
	Vm vm{system};
	CHECK_EQ(vm.call(KVM_RESET_DIRTY_RINGS), -EINVAL);
	CHECK_EQ(use_rings(vm, 0), -EINVAL);
	CHECK_EQ(use_rings(vm, ring_bytes + 1), -EINVAL);
	CHECK_EQ(use_rings(vm, 3 * ring_bytes), -EINVAL);
	CHECK_EQ(use_rings(vm, 1024), -EINVAL);
	CHECK_EQ(use_rings(vm, 1 << 21), -E2BIG);
	CHECK_EQ(use_rings(vm, 1 << 20, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 0);
	CHECK_EQ(use_rings(vm, 1 << 20), -EINVAL);
	CHECK_EQ(vm.call(KVM_RESET_DIRTY_RINGS), 0);
	Vm late{system};
	Vcpu vcpu{system, late};
	CHECK_EQ(use_rings(late, ring_bytes), -EINVAL);
}

TEST(bitmaps_are_no_more)
{
	Logged guest;
	u64 bitmap[ram_pages / 64];
	kvm_dirty_log log{};
	log.slot = ram_slot;
	log.dirty_bitmap = bitmap;
	CHECK_EQ(guest.vm.call(KVM_GET_DIRTY_LOG, &log), -ENXIO);
	kvm_clear_dirty_log clear{};
	clear.slot = ram_slot;
	clear.num_pages = ram_pages;
	clear.dirty_bitmap = bitmap;
	CHECK_EQ(guest.vm.call(KVM_CLEAR_DIRTY_LOG, &clear), -ENXIO);
}

TEST(they_are_mapped_shared_and_not_executable)
{
	Logged guest;
	CHECK(guest.map(PROT_READ, MAP_PRIVATE) == MAP_FAILED);
	CHECK(guest.map(PROT_READ | PROT_EXEC, MAP_PRIVATE) == MAP_FAILED);
	CHECK(guest.map(PROT_READ | PROT_EXEC, MAP_SHARED) == MAP_FAILED);
	void *again = guest.map(PROT_READ, MAP_SHARED);
	REQUIRE(again != MAP_FAILED);
	guest.write(1, 1, 1);
	CHECK_EQ(static_cast<kvm_dirty_gfn *>(again)->flags, KVM_DIRTY_GFN_F_DIRTY);
	munmap(again, ring_bytes);
}

TEST(what_was_written_is_in_it)
{
	Logged guest;
	guest.write(10, 100, 1);
	CHECK_EQ(guest.reset(), 0);
	CHECK(guest.collect() == range(10, 100));
	CHECK_EQ(guest.reset(), 0);
	guest.write(10, 100, 2);
	guest.write(50, 100, 3);
	CHECK(guest.collect() == range(10, 140));
	guest.write(0, 0, 4);
	CHECK(guest.collect().none());
}

TEST(a_full_one_exits_and_nothing_is_lost)
{
	Logged guest;
	Pages seen;
	unsigned exits = 0;
	guest.prepare(0, ram_pages, 0x5a);
	u32 why;
	while ((why = guest.run()) == KVM_EXIT_DIRTY_RING_FULL && exits < 100) {
		++exits;
		CHECK_EQ(guest.run(), KVM_EXIT_DIRTY_RING_FULL);
		const u64 count = guest.harvest(seen);
		CHECK(count > 0 && count < ring_entries);
		// What was seen is not yet reset.
		CHECK_EQ(guest.run(), KVM_EXIT_DIRTY_RING_FULL);
		REQUIRE_EQ(guest.reset(), count);
	}
	CHECK_EQ(why, KVM_EXIT_IO);
	CHECK(exits >= 2);
	guest.harvest(seen);
	CHECK(seen == range(0, ram_pages));
	for (u64 i = 0; i < ram_pages; ++i)
		REQUIRE_EQ(guest.ram.bytes()[i * page], 0x5a);
}

TEST(a_copy_that_follows_them_is_exact)
{
	Logged guest;
	Pages stale;
	u64 random = 1;
	for (u8 round = 1; round < 60; ++round) {
		random = random * 6364136223846793005 + 1442695040888963407;
		const u64 first = (random >> 33) % (ram_pages - 64), count = (random >> 20) % 64;
		guest.write(first, count, round);
		if (round % 3 == 0)
			CHECK_EQ(guest.vm.call(KVM_RESET_DIRTY_RINGS), 0);
		stale |= range(first, count);
		if (round % 4)
			continue;
		CHECK(guest.collect() == stale);
		stale.reset();
	}
}

TEST(vmms_that_write_to_it_what_they_like)
{
	Logged guest;
	constexpr u32 slots[] = {ram_slot, 0, 7, 32764, 0xffff, 1 << 16, 2 << 16, ~0u};
	constexpr u64 offsets[] = {0, 63, 64, ram_pages - 1, ram_pages, 1ull << 31, 1ull << 52, ~63ull, ~0ull};
	for (const u32 slot : slots)
		for (const u64 offset : offsets) {
			guest.write(0, 3, 1);
			const u64 count = guest.spoil(slot, offset);
			CHECK(count >= 3);
			CHECK_EQ(guest.reset(), count);
			// These pages did not come back; with the slot anew all do.
			REQUIRE_EQ(guest.vm.set_slot(ram_slot, ram_base, 0, nullptr), 0);
			REQUIRE_EQ(guest.log(), 0);
		}
	guest.write(7, 9, 1);
	CHECK(guest.collect() == range(7, 9));
}
