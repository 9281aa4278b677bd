// SPDX-License-Identifier: GPL-2.0-only
// Who a message is for.
#include <map>
#include <gtest/gtest.h>
#include "x86/devices/message.h"

namespace kvmpp::tests
{

using namespace kvmpp::x86;

namespace
{

constexpr Identity xapic(u8 id, u8 logical = 0, u8 model = 0xf)
{
	return {.id = id,
		.xapic_id = id,
		.logical_id = logical,
		.model = model,
		.hardware_enabled = true,
		.software_enabled = true};
}

constexpr Identity x2apic(u32 id)
{
	return {.id = id, .x2apic = true, .hardware_enabled = true, .software_enabled = true};
}

constexpr Message physical(u32 destination, bool narrow)
{
	return {.destination = destination, .narrow = narrow};
}

constexpr Message logical(u32 destination, bool narrow)
{
	return {.destination = destination, .logical = true, .narrow = narrow};
}

// All of it is decided at compile time where it can be.
static_assert(matches(xapic(3), physical(3, true)));
static_assert(!matches(xapic(3), physical(4, true)));
static_assert(matches(xapic(3), physical(0xff, true)));
static_assert(matches(xapic(3, 0x08), logical(0x0c, true)));
static_assert(!matches(xapic(3, 0x08), logical(0x04, true)));
static_assert(matches(x2apic(0x12345), physical(0x12345, false)));

} // namespace

TEST(Message, PhysicalXapic)
{
	for (unsigned id = 0; id < 255; ++id)
		for (unsigned destination = 0; destination < 256; ++destination)
			ASSERT_EQ(matches(xapic(id), physical(destination, true)),
				destination == id || destination == 255)
				<< id << " " << destination;
}

TEST(Message, FlatModelIsABitmap)
{
	for (unsigned destination = 0; destination < 255; ++destination)
		for (unsigned own = 0; own < 256; ++own)
			ASSERT_EQ(matches(xapic(0, own), logical(destination, true)),
				(own & destination) != 0);
	EXPECT_TRUE(matches(xapic(0, 0), logical(0xff, true))) << "broadcast";
}

TEST(Message, ClusterModelComparesTheClusterAndThenTheBits)
{
	for (unsigned destination = 0; destination < 255; ++destination)
		for (unsigned own = 0; own < 256; ++own)
			ASSERT_EQ(matches(xapic(0, own, 0), logical(destination, true)),
				own >> 4 == destination >> 4 && (own & destination & 15));
}

TEST(Message, AnUnknownModelMatchesOnlyBroadcasts)
{
	EXPECT_FALSE(matches(xapic(0, 1, 7), logical(1, true)));
	EXPECT_TRUE(matches(xapic(0, 1, 7), logical(0xff, true)));
}

TEST(Message, X2apicLogicalIdFollowsFromTheId)
{
	EXPECT_EQ(x2apic_logical_id(0), 1u);
	EXPECT_EQ(x2apic_logical_id(0x1f), 0x18000u);
	EXPECT_EQ(x2apic_logical_id(0x23), 0x20008u);
	EXPECT_TRUE(matches(x2apic(0x23), logical(0x20008, false)));
	EXPECT_TRUE(matches(x2apic(0x23), logical(0x2ffff, false)));
	EXPECT_FALSE(matches(x2apic(0x23), logical(0x20004, false)));
	EXPECT_FALSE(matches(x2apic(0x23), logical(0x30008, false)));
}

TEST(Message, BroadcastDependsOnTheWidthOfTheDestination)
{
	EXPECT_TRUE(matches(x2apic(7), physical(~0u, false)));
	EXPECT_TRUE(matches(x2apic(7), physical(0xff, true))) << "from an MSI or an I/O APIC";
	EXPECT_FALSE(matches(x2apic(7), physical(0xff, false))) << "the x2APIC ID 255";
	EXPECT_TRUE(matches(x2apic(0xff), physical(0xff, false)));
	EXPECT_TRUE(matches(xapic(7), physical(~0u, false)));
}

TEST(Message, AnXapicWithAWideIdIsReachedByIt)
{
	Identity apic = xapic(0xff);
	apic.id = 0x123;
	EXPECT_TRUE(matches(apic, physical(0x123, false)));
	EXPECT_FALSE(matches(apic, physical(0x23, true)));
}

TEST(Message, NothingMatchesAnApicThatIsOff)
{
	Identity apic = xapic(3);
	apic.hardware_enabled = false;
	EXPECT_FALSE(matches(apic, physical(3, true)));
	EXPECT_FALSE(matches(apic, physical(0xff, true)));
	Message all{.shorthand = Shorthand::all};
	EXPECT_FALSE(addresses(apic, all, 1));
}

TEST(Message, Shorthands)
{
	Message message{.destination = 9, .narrow = true};
	const auto named = [&](u8 id) { return addresses(xapic(id), message, 2); };
	EXPECT_TRUE(named(9));
	EXPECT_FALSE(named(2));
	message.shorthand = Shorthand::self;
	EXPECT_TRUE(named(2));
	EXPECT_FALSE(named(9));
	message.shorthand = Shorthand::all;
	EXPECT_TRUE(named(2) && named(9) && named(3));
	message.shorthand = Shorthand::others;
	EXPECT_FALSE(named(2));
	EXPECT_TRUE(named(9) && named(3));
}

TEST(Message, MsiFormat)
{
	const Message fixed = msi_message(0xfee05000, 0x4041, false);
	EXPECT_EQ(fixed, (Message{.destination = 5, .vector = 0x41, .narrow = true}));
	EXPECT_TRUE(msi_message(0xfee05004, 0x41, false).logical);
	EXPECT_TRUE(msi_message(0xfee05004, 0xc041, false).level);
	EXPECT_EQ(msi_message(0xfee05004, 0x441, false).delivery, Delivery::nmi);
	EXPECT_EQ(msi_message(0xfee0500c, 0x41, false).delivery, Delivery::lowest_priority)
		<< "redirection hint";
	const u64 wide = u64{0x12345600} << 32 | 0xfee78000;
	EXPECT_EQ(msi_message(wide, 0x41, true).destination, 0x12345678u);
	EXPECT_EQ(msi_message(wide, 0x41, false).destination, 0x78u);
}

TEST(Message, ArbitrationPrefersTheLowestTaskPriorityClass)
{
	Arbitration arbitration{0x51};
	EXPECT_FALSE(arbitration.found());
	arbitration.offer(1, 0x20);
	arbitration.offer(2, 0x10);
	arbitration.offer(3, 0x30);
	EXPECT_TRUE(arbitration.found());
	EXPECT_EQ(arbitration.winner(), 2u);
}

TEST(Message, ArbitrationAmongEqualsIsStablePerVectorAndSpreadsOverVectors)
{
	std::map<u32, unsigned> won;
	for (unsigned vector = 0x20; vector < 0xf0; ++vector) {
		Arbitration up{static_cast<u8>(vector)}, down{static_cast<u8>(vector)};
		for (u32 id = 0; id < 4; ++id) {
			up.offer(id, 0);
			down.offer(3 - id, 0);
		}
		ASSERT_EQ(up.winner(), down.winner());
		++won[up.winner()];
	}
	for (u32 id = 0; id < 4; ++id)
		EXPECT_GT(won[id], 20u) << "processor " << id;
}

} // namespace kvmpp::tests
