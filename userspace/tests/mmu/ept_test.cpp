// SPDX-License-Identifier: GPL-2.0-only
// The extended page tables: what is mapped is found, what is removed is gone and was flushed.
#include <gtest/gtest.h>
#include <set>
#include "mmu/ept.h"
#include "mmu/invalidation.h"
#include "sim/faults.h"
#include "sim/host.h"

namespace kvmpp::tests
{
namespace
{

using mmu::Ept;
using mmu::Entry;
using mmu::Level;
using mmu::Mapping;
using mmu::PageCache;

class Flushes final : public mmu::TlbFlusher {
public:
	void flush_all() override { ++count; }
	unsigned count = 0;
};

class EptTest : public testing::Test {
protected:
	~EptTest() override
	{
		ept_.reset();
		cache_.reset();
		EXPECT_EQ(sim::memory_statistics().live, before_);
	}

	void make(const Ept::Features &features = {.large_2m = true, .large_1g = true, .accessed_dirty = true})
	{
		auto root = host::Page::create();
		ASSERT_TRUE(root);
		ept_.emplace(std::move(*root), features, flushes_);
		cache_.emplace();
	}

	Ept::Installed map(u64 gfn, u64 pfn, Level level = Level::page_4k, bool writable = true)
	{
		EXPECT_TRUE(cache_->fill());
		return ept_->map(*cache_, {.gfn = {gfn}, .pfn = {pfn}, .level = level, .writable = writable});
	}

	// The entry that translates the frame, and its level; nullptr where nothing does.
	u64 *entry_of(u64 gfn, Level *found = nullptr)
	{
		u64 table = ept_->pointer() & Entry::address_mask;
		for (Level level = Level::root;; level = mmu::below(level)) {
			u64 *place = reinterpret_cast<u64 *>(table) + mmu::index_of({gfn}, level);
			const Entry entry{*place};
			if (!entry.present())
				return nullptr;
			if (entry.is_leaf(level)) {
				if (found)
					*found = level;
				return place;
			}
			table = entry.address().value;
		}
	}
	bool is_mapped(u64 gfn) { return entry_of(gfn) != nullptr; }
	u64 pfn_of(u64 gfn)
	{
		Level level;
		const u64 *place = entry_of(gfn, &level);
		return place ? Entry{*place}.pfn().number + (gfn & (mmu::frames_of(level) - 1)) : 0;
	}

	// To its end, however often it stops in between.
	void unmap(u64 start, u64 end)
	{
		for (Gfn gfn{start}; gfn < Gfn{end};) {
			const Gfn next = ept_->unmap(gfn, {end});
			ASSERT_GT(next, gfn);
			gfn = next;
		}
	}

	Flushes flushes_;
	std::optional<Ept> ept_;
	std::optional<PageCache> cache_;

private:
	const u64 before_ = sim::memory_statistics().live;
};

TEST_F(EptTest, ThePointerSaysFourLevelsOfWriteBackTables)
{
	make();
	EXPECT_EQ(ept_->pointer() & 0xfff, 6u | 3u << 3 | 1u << 6);
	make({});
	EXPECT_EQ(ept_->pointer() & 0xfff, 6u | 3u << 3);
	EXPECT_EQ(ept_->largest_level(), Level::page_4k);
	make({.large_2m = true});
	EXPECT_EQ(ept_->largest_level(), Level::page_2m);
}

TEST_F(EptTest, APageIsFoundWhereItWasMapped)
{
	make();
	EXPECT_EQ(map(0x12345, 0x777), Ept::Installed::done);
	EXPECT_EQ(pfn_of(0x12345), 0x777u);
	EXPECT_FALSE(is_mapped(0x12344));
	EXPECT_FALSE(is_mapped(0x12346));
	EXPECT_FALSE(is_mapped(0x12345 + 512));
	const Entry entry{*entry_of(0x12345)};
	EXPECT_TRUE(entry.writable());
	EXPECT_EQ(entry.raw >> 3 & 7, 6u); // write-back
	EXPECT_EQ(flushes_.count, 0u);
}

TEST_F(EptTest, LargePages)
{
	make();
	EXPECT_EQ(map(512, 1024, Level::page_2m), Ept::Installed::done);
	EXPECT_EQ(pfn_of(512 + 100), 1024u + 100);
	EXPECT_EQ(map(u64{1} << 18, u64{3} << 18, Level::page_1g), Ept::Installed::done);
	EXPECT_EQ(pfn_of((u64{1} << 18) + 70000), (u64{3} << 18) + 70000);
	Level level;
	ASSERT_TRUE(entry_of(512, &level));
	EXPECT_EQ(level, Level::page_2m);
}

TEST_F(EptTest, APageThatIsThereAlreadyStays)
{
	make();
	map(5, 50, Level::page_4k, false);
	// Another thread was content with less: it becomes writable.
	EXPECT_EQ(map(5, 50, Level::page_4k, true), Ept::Installed::done);
	EXPECT_TRUE(Entry{*entry_of(5)}.writable());
	// And does not become read-only again.
	EXPECT_EQ(map(5, 50, Level::page_4k, false), Ept::Installed::done);
	EXPECT_TRUE(Entry{*entry_of(5)}.writable());
	EXPECT_EQ(map(5, 51), Ept::Installed::page_in_the_way);
	EXPECT_EQ(pfn_of(5), 50u);
}

TEST_F(EptTest, ATableStandsInTheWayOfALargePageAndTheReverse)
{
	make();
	map(512, 1024);
	EXPECT_EQ(map(512, 1024, Level::page_2m), Ept::Installed::table_in_the_way);
	EXPECT_EQ(pfn_of(512), 1024u);

	map(1024, 2048, Level::page_2m, false);
	EXPECT_EQ(map(1024 + 3, 2048 + 3, Level::page_4k, false), Ept::Installed::done);
	EXPECT_EQ(map(1024 + 3, 2048 + 3, Level::page_4k, true), Ept::Installed::page_in_the_way);
}

TEST_F(EptTest, UnmappingRemovesTheRangeAndNothingElse)
{
	make();
	for (u64 gfn = 0; gfn < 3000; gfn += 7)
		map(gfn, gfn + 10000);
	unmap(600, 2100);
	for (u64 gfn = 0; gfn < 3000; ++gfn)
		EXPECT_EQ(is_mapped(gfn), gfn % 7 == 0 && (gfn < 600 || gfn >= 2100)) << gfn;
	EXPECT_GT(flushes_.count, 0u);
}

TEST_F(EptTest, UnmappingNothingFlushesNothing)
{
	make();
	map(5, 50);
	unmap(6, 5000);
	EXPECT_EQ(flushes_.count, 0u);
	EXPECT_TRUE(is_mapped(5));
}

TEST_F(EptTest, APieceOfALargePageTakesAllOfItAway)
{
	make();
	map(512, 1024, Level::page_2m);
	unmap(700, 701);
	EXPECT_FALSE(is_mapped(512));
	EXPECT_EQ(flushes_.count, 1u);
}

TEST_F(EptTest, TablesGoWithARangeThatHoldsThemAsAWhole)
{
	make();
	map(0, 1);
	ASSERT_TRUE(cache_->fill());
	const u64 with_one = sim::memory_statistics().live;
	// 40 tables of the lowest level, more than one batch takes.
	for (u64 i = 1; i <= 40; ++i)
		map(i * 512, i);
	ASSERT_TRUE(cache_->fill());
	EXPECT_EQ(sim::memory_statistics().live, with_one + 40);
	unmap(512, 41 * 512);
	EXPECT_EQ(sim::memory_statistics().live, with_one);
	EXPECT_TRUE(is_mapped(0));
	// Freed only after a flush: one for each batch of 32.
	EXPECT_EQ(flushes_.count, 2u);
}

TEST_F(EptTest, EverythingGoesAtOnce)
{
	make();
	for (u64 i = 0; i < 100; ++i)
		map(i * 0x12345, i + 1);
	unmap(0, u64{1} << 36);
	for (u64 i = 0; i < 100; ++i)
		EXPECT_FALSE(is_mapped(i * 0x12345));
}

TEST_F(EptTest, ALongUnmapMakesRoomForOthers)
{
	make();
	// One entry in each lowest table of 32 GiB, so that none lies in the range as a whole.
	for (u64 i = 0; i < 16; ++i)
		map(i * 512 + 1, i + 1);
	const Gfn stopped = ept_->unmap({1}, {u64{1} << 36});
	EXPECT_GT(stopped.number, 1u);
	EXPECT_LE(stopped.number, u64{1} << 36);
	unmap(1, u64{1} << 36);
	for (u64 i = 0; i < 16; ++i)
		EXPECT_FALSE(is_mapped(i * 512 + 1));
}

TEST_F(EptTest, WriteProtectionKeepsSmallPagesAndDropsLargeOnes)
{
	make();
	map(5, 50);
	map(6, 51, Level::page_4k, false);
	map(512, 1024, Level::page_2m);
	map(1024, 2048);
	EXPECT_EQ(ept_->write_protect({0}, {1024}), Gfn{1024});
	EXPECT_FALSE(Entry{*entry_of(5)}.writable());
	EXPECT_EQ(pfn_of(5), 50u);
	EXPECT_EQ(pfn_of(6), 51u);
	EXPECT_FALSE(is_mapped(512));
	EXPECT_TRUE(Entry{*entry_of(1024)}.writable());
	EXPECT_EQ(flushes_.count, 1u);
	EXPECT_EQ(ept_->write_protect({0}, {1024}), Gfn{1024});
	EXPECT_EQ(flushes_.count, 1u);
}

TEST_F(EptTest, WriteProtectionByMask)
{
	make();
	for (u64 gfn = 64; gfn < 128; ++gfn)
		map(gfn, gfn);
	EXPECT_TRUE(ept_->write_protect_masked({64}, bit(0) | bit(5) | bit(63)));
	for (u64 gfn = 64; gfn < 128; ++gfn) {
		const bool chosen = gfn == 64 || gfn == 69 || gfn == 127;
		EXPECT_EQ(Entry{*entry_of(gfn)}.writable(), !chosen) << gfn;
	}
	// The flush is the caller's.
	EXPECT_EQ(flushes_.count, 0u);
	EXPECT_FALSE(ept_->write_protect_masked({64}, bit(0)));
	EXPECT_FALSE(ept_->write_protect_masked({640}, ~u64{0}));
	map(1024, 1024, Level::page_2m);
	EXPECT_TRUE(ept_->write_protect_masked({1024 + 128}, bit(3)));
	EXPECT_FALSE(is_mapped(1024));
}

TEST_F(EptTest, YoungPagesAreThoseThatTheProcessorHasMarked)
{
	make();
	map(5, 50);
	map(6, 51);
	EXPECT_FALSE(ept_->young({0}, {100}, false));
	*entry_of(6) |= Entry::accessed_bit;
	EXPECT_FALSE(ept_->young({0}, {6}, false));
	EXPECT_TRUE(ept_->young({0}, {100}, false));
	EXPECT_TRUE(ept_->young({0}, {100}, true));
	EXPECT_FALSE(ept_->young({0}, {100}, true));
	EXPECT_EQ(pfn_of(6), 51u);
}

TEST_F(EptTest, WithoutMarksEveryMappedPageIsYoung)
{
	make({});
	EXPECT_FALSE(ept_->young({0}, {100}, true));
	map(5, 50);
	EXPECT_TRUE(ept_->young({0}, {100}, true));
	EXPECT_TRUE(ept_->young({0}, {100}, true));
}

TEST_F(EptTest, ACacheThatCannotBeFilledSaysSoAndKeepsWhatItHas)
{
	make();
	const u64 empty = sim::memory_statistics().live;
	for (unsigned successes = 0; successes < 3; ++successes) {
		cache_.emplace();
		sim::fail_allocation_after(successes);
		const auto filled = cache_->fill();
		sim::fail_no_allocation();
		ASSERT_FALSE(filled);
		EXPECT_EQ(filled.error(), Errno{ENOMEM});
		EXPECT_EQ(sim::memory_statistics().live, empty + successes);
		EXPECT_TRUE(cache_->fill());
		EXPECT_EQ(sim::memory_statistics().live, empty + 3);
	}
}

TEST(Invalidations, ALookUpIsVoidDuringAndAfterAChangeOfItsRange)
{
	mmu::Invalidations changes;
	const u64 before = changes.snapshot();
	EXPECT_FALSE(changes.stale(before, {0x5000}));
	changes.begin({0x4000}, {0x6000});
	EXPECT_TRUE(changes.stale(before, {0x5000}));
	EXPECT_TRUE(changes.stale(changes.snapshot(), {0x5000}));
	EXPECT_FALSE(changes.stale(before, {0x7000}));
	// Ranges that run together count as one.
	changes.begin({0x8000}, {0x9000});
	EXPECT_TRUE(changes.stale(before, {0x7000}));
	changes.end();
	EXPECT_TRUE(changes.stale(changes.snapshot(), {0x5000}));
	changes.end();
	EXPECT_TRUE(changes.stale(before, {0x5000}));
	EXPECT_TRUE(changes.stale(before, {0x100000}));
	EXPECT_FALSE(changes.stale(changes.snapshot(), {0x5000}));
}

} // namespace
} // namespace kvmpp::tests
