// SPDX-License-Identifier: GPL-2.0-only
// KVM_SET_USER_MEMORY_REGION: what a slot may be, and how slots come, move and go. Also the two
// addresses that a VM keeps for Intel's real mode.
#include <cerrno>
#include <iterator>
#include "kvm.h"

using namespace kvmpp::selftests;

namespace
{

struct Fixture {
	System system;
	Vm vm{system};
	Backing memory{16 * page};

	int set(u32 slot, u64 address, u64 pages, u64 first_page = 0, u32 flags = 0) const
	{
		return vm.set_slot(
			slot, address, pages * page, memory.bytes() + first_page * page, flags);
	}
};

} // namespace

TEST(a_slot_comes_and_goes)
{
	Fixture fixture;
	CHECK_EQ(fixture.set(0, 0, 4), 0);
	CHECK_EQ(fixture.set(0, 0, 0), 0);
	CHECK_EQ(fixture.set(0, 0, 4), 0);
}

TEST(a_slot_that_is_not_there_cannot_be_deleted)
{
	Fixture fixture;
	CHECK_EQ(fixture.set(0, 0, 0), -EINVAL);
	CHECK_EQ(fixture.set(5, 0x100000, 0), -EINVAL);
	CHECK_EQ(fixture.set(0, 0, 4), 0);
	CHECK_EQ(fixture.set(0, 0, 0), 0);
	CHECK_EQ(fixture.set(0, 0, 0), -EINVAL);
}

TEST(addresses_and_sizes_are_whole_pages)
{
	Fixture fixture;
	const u8 *bytes = fixture.memory.bytes();
	CHECK_EQ(fixture.vm.set_slot(0, 0x800, page, bytes), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 1, page, bytes), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page + 1, bytes), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, 0x800, bytes), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, bytes + 1), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, bytes + 0x800), -EINVAL);
}

TEST(guest_addresses_do_not_wrap)
{
	Fixture fixture;
	CHECK_EQ(fixture.set(0, -page, 2), -EINVAL);
	CHECK_EQ(fixture.set(0, -page, 1), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, page, -page, fixture.memory.bytes()), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, -page, fixture.memory.bytes()), -EINVAL);
}

TEST(guest_addresses_stay_within_the_processor_s_reach)
{
	Fixture fixture;
	CHECK_EQ(fixture.set(0, 1ull << 52, 1), -EINVAL);
	CHECK_EQ(fixture.set(0, 1ull << 62, 1), -EINVAL);
	CHECK_EQ(fixture.set(0, 1ull << 35, 1), 0);
}

TEST(backing_lies_in_user_addresses)
{
	Fixture fixture;
	auto at = [](u64 address) { return reinterpret_cast<const void *>(address); };
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, at(0xffff888000000000)), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, at(0x800000000000)), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, at(0x0000900000000000)), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, 2 * page, at(0x7ffffffff000)), -EINVAL);
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, at(-page)), -EINVAL);
	// What is not mapped may still be by the time a guest touches it.
	CHECK_EQ(fixture.vm.set_slot(0, 0, page, at(0x10000000)), 0);
}

TEST(unknown_flags_are_refused)
{
	Fixture fixture;
	for (u32 bit = 2; bit < 32; ++bit)
		if (!CHECK_EQ(fixture.set(0, 0, 1, 0, 1u << bit), -EINVAL))
			note("flag %#x", 1u << bit);
}

TEST(slot_numbers_end_where_the_capability_says)
{
	Fixture fixture;
	u32 count = static_cast<u32>(fixture.system.extension(KVM_CAP_NR_MEMSLOTS));
	CHECK_EQ(fixture.set(count - 1, 0, 1), 0);
	CHECK_EQ(fixture.set(count, 0x100000, 1), -EINVAL);
	CHECK_EQ(fixture.set(0xffff, 0x100000, 1), -EINVAL);
	u32 spaces = static_cast<u32>(fixture.system.extension(KVM_CAP_MULTI_ADDRESS_SPACE));
	CHECK_EQ(fixture.set((spaces ? spaces : 1) << 16, 0x100000, 1), -EINVAL);
	CHECK_EQ(fixture.set(0xffff0000, 0x100000, 1), -EINVAL);
}

TEST(slots_do_not_overlap)
{
	Fixture fixture;
	REQUIRE_EQ(fixture.set(0, 0x10000, 4), 0);
	CHECK_EQ(fixture.set(1, 0x10000, 4), -EEXIST);
	CHECK_EQ(fixture.set(1, 0xf000, 2), -EEXIST);
	CHECK_EQ(fixture.set(1, 0x13000, 2), -EEXIST);
	CHECK_EQ(fixture.set(1, 0x11000, 1), -EEXIST);
	CHECK_EQ(fixture.set(1, 0xf000, 8), -EEXIST);
	CHECK_EQ(fixture.set(1, 0xf000, 1), 0);
	CHECK_EQ(fixture.set(2, 0x14000, 1), 0);
}

TEST(two_slots_may_share_backing)
{
	Fixture fixture;
	CHECK_EQ(fixture.set(0, 0, 4), 0);
	CHECK_EQ(fixture.set(1, 0x100000, 4), 0);
}

TEST(a_slot_moves_but_not_onto_another)
{
	Fixture fixture;
	REQUIRE_EQ(fixture.set(0, 0, 4), 0);
	REQUIRE_EQ(fixture.set(1, 0x100000, 4), 0);
	CHECK_EQ(fixture.set(0, 0x102000, 4), -EEXIST);
	CHECK_EQ(fixture.set(0, 0x200000, 4), 0);
	CHECK_EQ(fixture.set(2, 0, 4), 0);
	CHECK_EQ(fixture.set(0, 0x201000, 4), 0);
}

TEST(a_slot_keeps_its_size_and_backing)
{
	Fixture fixture;
	REQUIRE_EQ(fixture.set(0, 0, 4), 0);
	CHECK_EQ(fixture.set(0, 0, 5), -EINVAL);
	CHECK_EQ(fixture.set(0, 0, 3), -EINVAL);
	CHECK_EQ(fixture.set(0, 0, 4, 4), -EINVAL);
	CHECK_EQ(fixture.set(0, 0, 4), 0);
}

TEST(a_slot_does_not_become_read_only)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_READONLY_MEM);
	REQUIRE_EQ(fixture.set(0, 0, 4), 0);
	CHECK_EQ(fixture.set(0, 0, 4, 0, KVM_MEM_READONLY), -EINVAL);
	REQUIRE_EQ(fixture.set(1, 0x100000, 4, 0, KVM_MEM_READONLY), 0);
	CHECK_EQ(fixture.set(1, 0x100000, 4), -EINVAL);
}

TEST(read_only_slots_need_their_capability)
{
	Fixture fixture;
	int expected = fixture.system.extension(KVM_CAP_READONLY_MEM) > 0 ? 0 : -EINVAL;
	CHECK_EQ(fixture.set(0, 0, 4, 0, KVM_MEM_READONLY), expected);
}

TEST(many_slots_at_once)
{
	Fixture fixture;
	constexpr u32 count = 256;
	REQUIRE(fixture.system.extension(KVM_CAP_NR_MEMSLOTS) >= static_cast<int>(count));
	for (u32 i = 0; i < count; ++i)
		REQUIRE_EQ(fixture.set(i, u64{i} * 2 * page, 1), 0);
	CHECK_EQ(fixture.set(count, 100 * page, 1), -EEXIST);
	for (u32 i = 0; i < count; i += 2)
		REQUIRE_EQ(fixture.set(i, 0, 0), 0);
	CHECK_EQ(fixture.set(count, 100 * page, 1), 0);
}

TEST(a_bad_pointer_faults)
{
	Fixture fixture;
	CHECK_EQ(fixture.vm.call(KVM_SET_USER_MEMORY_REGION, bad_pointer), -EFAULT);
}

TEST(tss_address_leaves_room_for_its_three_pages)
{
	Fixture fixture;
	CHECK_EQ(fixture.vm.call(KVM_SET_TSS_ADDR, 0xfffbd000), 0);
	CHECK_EQ(fixture.vm.call(KVM_SET_TSS_ADDR, 0xffffe000), -EINVAL);
	CHECK_EQ(fixture.vm.call(KVM_SET_TSS_ADDR, 0xfffff000), -EINVAL);
}

TEST(identity_map_is_placed_before_any_vcpu)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_SET_IDENTITY_MAP_ADDR);
	u64 address = 0xfffbc000;
	CHECK_EQ(fixture.vm.call(KVM_SET_IDENTITY_MAP_ADDR, bad_pointer), -EFAULT);
	CHECK_EQ(fixture.vm.call(KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
	Vcpu vcpu{fixture.system, fixture.vm};
	CHECK_EQ(fixture.vm.call(KVM_SET_IDENTITY_MAP_ADDR, &address), -EINVAL);
}
