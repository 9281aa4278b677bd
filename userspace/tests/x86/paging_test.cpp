// SPDX-License-Identifier: GPL-2.0-only
// The walk of a guest's page tables in every paging mode.
#include <map>
#include <gtest/gtest.h>
#include "x86/control_registers.h"
#include "x86/paging.h"

namespace kvmpp::tests
{
namespace
{

using namespace x86;
namespace entry = paging_entry;

constexpr u64 present = entry::present, writable = entry::writable, user = entry::user;
constexpr u64 all = present | writable | user;

// Tables in a map; addresses that are not in it are not RAM.
class Tables {
public:
	void set(u64 address, u64 value) { memory_[address] = value; }
	u64 get(u64 address) const { return memory_.at(address); }
	bool read_entry(Gpa address, unsigned size, u64 &value)
	{
		const auto found = memory_.find(address.value);
		if (found == memory_.end())
			return false;
		value = size == 4 ? static_cast<u32>(found->second) : found->second;
		if (interferences > 0) {
			--interferences;
			found->second ^= bit(9); // another processor changes a bit of software's
		}
		return true;
	}
	Replaced replace_entry(Gpa address, unsigned, u64 expected, u64 desired)
	{
		if (read_only)
			return Replaced::not_writable;
		u64 &value = memory_.at(address.value);
		if (value != expected)
			return Replaced::changed_meanwhile;
		value = desired;
		return Replaced::yes;
	}
	unsigned interferences = 0;
	bool read_only = false;

private:
	std::map<u64, u64> memory_;
};

constexpr Paging long_mode{.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
	.cr3 = 0x1000,
	.cr4 = X86_CR4_PAE,
	.efer = efer::lme | efer::lma | efer::nx,
	.pdptes = {},
	.physical_bits = 46};
constexpr Gva address{0x0000'7f12'3456'7abc};

// A 4 KiB page at `address` in four levels, all rights on the way.
struct FourLevels {
	Tables tables;
	static constexpr u64 places[] = {0x1000 + (address.value >> 39 & 511) * 8,
		0x2000 + (address.value >> 30 & 511) * 8, 0x3000 + (address.value >> 21 & 511) * 8,
		0x4000 + (address.value >> 12 & 511) * 8};

	FourLevels()
	{
		for (unsigned i = 0; i < 3; ++i)
			tables.set(places[i], (0x2000 + i * 0x1000) | all);
		tables.set(places[3], 0x5'5000 | all);
	}
	auto walk(const PageAccess &access = {}, const Paging &paging = long_mode)
	{
		return translate(tables, paging, address, access);
	}
	u32 code(const PageAccess &access = {}, const Paging &paging = long_mode)
	{
		const auto result = walk(access, paging);
		if (result)
			return ~0u;
		EXPECT_EQ(result.error().vector, Vector::page_fault);
		EXPECT_EQ(result.error().address, address.value);
		return result.error().error_code;
	}
};

TEST(Paging, WithoutPagingAddressesStayAsTheyAre)
{
	Tables none;
	const auto result = translate(none, Paging{.cr0 = X86_CR0_PE}, Gva{0x1'2345'6789}, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0x2345'6789u);
	EXPECT_TRUE(result->writable);
}

TEST(Paging, FourLevelsLeadToThePage)
{
	FourLevels levels;
	const auto result = levels.walk();
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0x5'5abcu);
	EXPECT_EQ(result->page_bytes, page_size);
	EXPECT_TRUE(result->writable);
	EXPECT_TRUE(result->user);
}

TEST(Paging, AccessedAndDirtyAreMarkedAsTheProcessorDoes)
{
	FourLevels levels;
	ASSERT_TRUE(levels.walk());
	for (const u64 place : FourLevels::places)
		EXPECT_TRUE(levels.tables.get(place) & entry::accessed);
	EXPECT_FALSE(levels.tables.get(FourLevels::places[3]) & entry::dirty);
	ASSERT_TRUE(levels.walk({.write = true}));
	EXPECT_TRUE(levels.tables.get(FourLevels::places[3]) & entry::dirty);
	EXPECT_FALSE(levels.tables.get(FourLevels::places[2]) & entry::dirty);
}

TEST(Paging, AFaultMarksNoPageThatItDidNotReach)
{
	FourLevels levels;
	levels.tables.set(FourLevels::places[3], 0x5'5000 | present);
	EXPECT_EQ(levels.code({.write = true}), page_fault_code::present | page_fault_code::write);
	EXPECT_EQ(levels.tables.get(FourLevels::places[3]), 0x5'5000 | present);
}

TEST(Paging, AMissingEntryOnAnyLevel)
{
	for (const u64 place : FourLevels::places) {
		FourLevels levels;
		levels.tables.set(place, levels.tables.get(place) & ~present);
		EXPECT_EQ(levels.code(), 0u);
		EXPECT_EQ(levels.code({.write = true, .user = true}),
			page_fault_code::write | page_fault_code::user);
		EXPECT_EQ(levels.code({.fetch = true}), page_fault_code::fetch);
	}
}

TEST(Paging, RightsAreThoseOfTheWholeWay)
{
	for (const u64 place : FourLevels::places) {
		FourLevels levels;
		levels.tables.set(place, levels.tables.get(place) & ~user);
		EXPECT_EQ(levels.code({.user = true}), page_fault_code::present | page_fault_code::user);
		EXPECT_TRUE(levels.walk());
		levels = {};
		levels.tables.set(place, levels.tables.get(place) & ~writable);
		EXPECT_EQ(levels.code({.write = true}), page_fault_code::present | page_fault_code::write);
		ASSERT_TRUE(levels.walk());
		EXPECT_FALSE(levels.walk()->writable);
		levels = {};
		levels.tables.set(place, levels.tables.get(place) | entry::no_execute);
		EXPECT_EQ(levels.code({.fetch = true}), page_fault_code::present | page_fault_code::fetch);
		EXPECT_TRUE(levels.walk());
	}
}

// CVE-2021-38198: rights of two ways to a page were mixed up. Every combination of rights on the way, for
// every kind of access, by the SDM's words (vol. 3, 4.6) instead of by the walk's.
TEST(Paging, Cve_2021_38198_EveryCombinationOfRights)
{
	constexpr u64 rights[] = {writable, user, entry::no_execute};
	for (unsigned combination = 0; combination < 1u << 12; ++combination) {
		FourLevels levels;
		bool may_write = true, is_user = true, may_execute = true;
		for (unsigned level = 0; level < 4; ++level) {
			u64 value = (levels.tables.get(FourLevels::places[level]) & ~all) | present;
			for (unsigned right = 0; right < 3; ++right)
				if (combination >> (level * 3 + right) & 1)
					value |= rights[right];
			levels.tables.set(FourLevels::places[level], value);
			may_write &= (value & writable) != 0;
			is_user &= (value & user) != 0;
			may_execute &= !(value & entry::no_execute);
		}
		for (unsigned settings = 0; settings < 1u << 7; ++settings) {
			const auto setting = [settings](unsigned n) { return (settings >> n & 1) != 0; };
			const PageAccess access{.write = setting(0) && !setting(1),
				.fetch = setting(1),
				.user = setting(2),
				.smap_lifted = setting(3)};
			const bool wp = setting(4), smep = setting(5), smap = setting(6);
			Paging paging = long_mode;
			paging.cr0 = X86_CR0_PE | X86_CR0_PG | (wp ? X86_CR0_WP : 0);
			paging.cr4 |= (smep ? X86_CR4_SMEP : 0) | (smap ? X86_CR4_SMAP : 0);
			bool allowed;
			if (access.user)
				allowed = is_user && (!access.write || may_write) &&
					  (!access.fetch || may_execute);
			else if (access.fetch)
				allowed = may_execute && !(smep && is_user);
			else
				allowed = (!access.write || may_write || !wp) &&
					  !(smap && is_user && !access.smap_lifted);
			ASSERT_EQ(levels.walk(access, paging).has_value(), allowed)
				<< "combination " << combination << ", settings " << settings;
		}
	}
}

TEST(Paging, WithoutWriteProtectionTheSupervisorWritesAnywhere)
{
	FourLevels levels;
	levels.tables.set(FourLevels::places[3], 0x5'5000 | present | user);
	Paging paging = long_mode;
	paging.cr0 &= ~u64{X86_CR0_WP};
	EXPECT_TRUE(levels.walk({.write = true}, paging));
	EXPECT_FALSE(levels.walk({.write = true, .user = true}, paging));
}

TEST(Paging, SmepAndSmapKeepTheSupervisorOffUserPages)
{
	FourLevels levels;
	Paging paging = long_mode;
	paging.cr4 |= X86_CR4_SMEP | X86_CR4_SMAP;
	EXPECT_EQ(levels.code({.fetch = true}, paging), page_fault_code::present | page_fault_code::fetch);
	EXPECT_EQ(levels.code({}, paging), u32{page_fault_code::present});
	EXPECT_TRUE(levels.walk({.smap_lifted = true}, paging));
	EXPECT_TRUE(levels.walk({.fetch = true, .user = true}, paging));
}

TEST(Paging, ReservedBitsFault)
{
	constexpr u32 code = page_fault_code::present | page_fault_code::reserved;
	FourLevels levels;
	levels.tables.set(FourLevels::places[3], 0x5'5000 | all | bit(46));
	EXPECT_EQ(levels.code(), code);
	levels = {};
	levels.tables.set(FourLevels::places[0], 0x2000 | all | entry::large);
	EXPECT_EQ(levels.code(), code);
	levels = {};
	levels.tables.set(FourLevels::places[2], 0x20'2000 | all | entry::large);
	EXPECT_EQ(levels.code(), code);
	// NX is reserved until EFER says otherwise.
	levels = {};
	levels.tables.set(FourLevels::places[3], 0x5'5000 | all | entry::no_execute);
	Paging paging = long_mode;
	paging.efer &= ~efer::nx;
	EXPECT_EQ(levels.code({}, paging), code);
}

TEST(Paging, LargePages)
{
	FourLevels levels;
	levels.tables.set(FourLevels::places[2], 0x40'0000 | all | entry::large | bit(12));
	auto result = levels.walk();
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0x40'0000 + (address.value & 0x1f'ffff));
	EXPECT_EQ(result->page_bytes, u64{2} << 20);
	levels.tables.set(FourLevels::places[1], 0x4000'0000 | all | entry::large);
	result = levels.walk();
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0x4000'0000 + (address.value & 0x3fff'ffff));
	EXPECT_EQ(result->page_bytes, u64{1} << 30);
}

TEST(Paging, FiveLevels)
{
	Tables tables;
	constexpr Gva far{0x00ff'7f12'3456'7abc};
	Paging paging = long_mode;
	paging.cr4 |= X86_CR4_LA57;
	u64 table = 0x1000;
	for (const unsigned shift : {48, 39, 30, 21, 12}) {
		tables.set(table + (far.value >> shift & 511) * 8, (table + 0x1000) | all);
		table += 0x1000;
	}
	const auto result = translate(tables, paging, far, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0x6abcu);
}

TEST(Paging, PaeStartsAtTheRegistersOfThePdptes)
{
	Tables tables;
	constexpr Gva linear{0xc123'4567};
	Paging paging{.cr0 = X86_CR0_PE | X86_CR0_PG,
		.cr3 = 0x1000,
		.cr4 = X86_CR4_PAE,
		.efer = efer::nx,
		.pdptes = {0, 0, 0, 0x3001},
		.physical_bits = 40};
	tables.set(0x3000 + (linear.value >> 21 & 511) * 8, 0x4000 | all);
	tables.set(0x4000 + (linear.value >> 12 & 511) * 8, bit(36) | all);
	auto result = translate(tables, paging, linear, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, bit(36) + 0x567);
	tables.set(0x3000 + (linear.value >> 21 & 511) * 8, 0x60'0000 | all | entry::large);
	result = translate(tables, paging, linear, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->page_bytes, u64{2} << 20);
	// Bits 62:52 are reserved there.
	tables.set(0x3000 + (linear.value >> 21 & 511) * 8, 0x60'0000 | all | entry::large | bit(52));
	EXPECT_FALSE(translate(tables, paging, linear, {}));
	paging.pdptes[3] = 0;
	EXPECT_EQ(translate(tables, paging, linear, {}).error().error_code, 0u);
}

TEST(Paging, TwoLevelsOf32Bits)
{
	Tables tables;
	constexpr Gva linear{0x1234'5678};
	Paging paging{.cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000, .cr4 = 0, .efer = 0, .pdptes = {}};
	tables.set(0x1000 + (linear.value >> 22) * 4, 0x2000 | all);
	tables.set(0x2000 + (linear.value >> 12 & 1023) * 4, 0xabcd'e000 | all);
	auto result = translate(tables, paging, linear, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, 0xabcd'e678u);
	// Without PSE the bit for large pages is ignored.
	tables.set(0x1000 + (linear.value >> 22) * 4, 0x2000 | all | entry::large);
	EXPECT_TRUE(translate(tables, paging, linear, {}));
	// With it the page has 4 MiB, and PSE-36 four more address bits.
	paging.cr4 = X86_CR4_PSE;
	tables.set(0x1000 + (linear.value >> 22) * 4, 0x0040'0000 | bit(13) | all | entry::large);
	result = translate(tables, paging, linear, {});
	ASSERT_TRUE(result);
	EXPECT_EQ(result->address.value, bit(32) + 0x0040'0000 + (linear.value & 0x3f'ffff));
	tables.set(0x1000 + (linear.value >> 22) * 4, 0x0060'0000 | all | entry::large);
	EXPECT_EQ(translate(tables, paging, linear, {}).error().error_code,
		u32{page_fault_code::present | page_fault_code::reserved});
}

TEST(Paging, TheFetchBitIsReportedOnlyWhereFetchesCanBeToldApart)
{
	Tables none;
	Paging paging{.cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000, .cr4 = 0, .efer = efer::nx, .pdptes = {}};
	const PageAccess fetch{.fetch = true};
	EXPECT_EQ(translate(none, paging, Gva{0}, fetch).error().error_code, 0u);
	paging.cr4 = X86_CR4_SMEP;
	EXPECT_EQ(translate(none, paging, Gva{0}, fetch).error().error_code, u32{page_fault_code::fetch});
	paging.cr4 = X86_CR4_PAE;
	EXPECT_EQ(translate(none, paging, Gva{0}, fetch).error().error_code, u32{page_fault_code::fetch});
}

TEST(Paging, TablesOutsideRamAreNotPresentAndThoseInRomAreUsed)
{
	FourLevels levels;
	levels.tables.read_only = true;
	EXPECT_TRUE(levels.walk({.write = true}));
	EXPECT_FALSE(levels.tables.get(FourLevels::places[3]) & entry::accessed);
	levels.tables.set(FourLevels::places[1], 0x7'7000 | all);
	EXPECT_EQ(levels.code(), 0u);
}

TEST(Paging, AnEntryThatChangesMeanwhileIsLookedAtAgain)
{
	FourLevels levels;
	levels.tables.interferences = 3;
	EXPECT_TRUE(levels.walk());
	// A processor that changes it for ever gets a fault, and the guest tries again.
	levels = {};
	levels.tables.interferences = 1000;
	EXPECT_EQ(levels.code(), 0u);
}

TEST(ControlRegisters, CombinationsThatNoProcessorCanBeIn)
{
	const ControlState fine{.cr0 = X86_CR0_PE | X86_CR0_PG,
		.cr3 = 0x1000,
		.cr4 = X86_CR4_PAE,
		.efer = efer::lme | efer::lma,
		.cr4_allowed = X86_CR4_PAE | X86_CR4_PCIDE,
		.physical_bits = 46,
		.cs_long = true,
		.cs_default_big = false};
	EXPECT_TRUE(consistent(fine));
	const auto broken = [&](auto change) {
		ControlState state = fine;
		change(state);
		return !consistent(state);
	};
	EXPECT_TRUE(broken([](auto &s) { s.cr0 = X86_CR0_PG; }));
	EXPECT_TRUE(broken([](auto &s) { s.cr0 |= X86_CR0_NW; }));
	EXPECT_TRUE(broken([](auto &s) { s.cr0 |= bit(32); }));
	EXPECT_TRUE(broken([](auto &s) { s.cr4 |= X86_CR4_OSXSAVE; })); // CVE-2012-4461
	EXPECT_TRUE(broken([](auto &s) { s.cr4 = 0; }));
	EXPECT_TRUE(broken([](auto &s) { s.cr3 = bit(46); }));
	EXPECT_TRUE(broken([](auto &s) { s.efer = efer::lme; }));
	EXPECT_TRUE(broken([](auto &s) { s.efer = efer::lma; }));
	EXPECT_TRUE(broken([](auto &s) { s.cs_default_big = true; }));
}

} // namespace
} // namespace kvmpp::tests
