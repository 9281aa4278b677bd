// SPDX-License-Identifier: GPL-2.0-only
// Registers of a local APIC, by memory and by MSR.
#include "tests/devices/apic.h"

namespace kvmpp::tests
{

namespace
{
constexpr u32 offset(ApicRegister name)
{
	return static_cast<u32>(name);
}
} // namespace

// SDM vol. 3, 11.4.7.1.
TEST(LapicRegisters, Reset)
{
	Apic apic{5};
	EXPECT_EQ(apic.read(ApicRegister::id), 0x05000000u);
	EXPECT_EQ(apic.read(ApicRegister::version), 0x00050014u);
	EXPECT_EQ(apic.read(ApicRegister::dfr), 0xffffffffu);
	EXPECT_EQ(apic.read(ApicRegister::svr), 0xffu);
	for (auto name : {ApicRegister::lvt_timer, ApicRegister::lvt_thermal, ApicRegister::lvt_pmc,
		     ApicRegister::lvt_lint0, ApicRegister::lvt_lint1, ApicRegister::lvt_error})
		EXPECT_EQ(apic.read(name), 0x10000u);
	for (auto name : {ApicRegister::tpr, ApicRegister::apr, ApicRegister::ppr,
		     ApicRegister::ldr, ApicRegister::esr, ApicRegister::icr,
		     ApicRegister::icr_high, ApicRegister::initial_count,
		     ApicRegister::current_count, ApicRegister::divide})
		EXPECT_EQ(apic.read(name), 0u) << std::hex << offset(name);
	EXPECT_EQ(apic->base(), 0xfee00800u);
}

TEST(LapicRegisters, OnlyWritableBitsStick)
{
	Apic apic;
	apic.enable();
	const struct {
		ApicRegister name;
		u32 value;
	} rows[] = {
		{ApicRegister::id, 0xff000000},
		{ApicRegister::tpr, 0xff},
		{ApicRegister::ldr, 0xff000000},
		{ApicRegister::dfr, 0xffffffff},
		{ApicRegister::icr_high, 0xff000000},
		{ApicRegister::lvt_timer, 0x700ff},
		{ApicRegister::lvt_thermal, 0x107ff},
		{ApicRegister::lvt_pmc, 0x107ff},
		{ApicRegister::lvt_lint0, 0x1a7ff},
		{ApicRegister::lvt_lint1, 0x1a7ff},
		{ApicRegister::lvt_error, 0x100ff},
		{ApicRegister::divide, 0xb},
		{ApicRegister::svr, 0x3ff},
	};
	for (const auto &row : rows) {
		apic.write(row.name, 0xffffffff);
		EXPECT_EQ(apic.read(row.name), row.value) << std::hex << offset(row.name);
	}
	apic.write(ApicRegister::dfr, 0);
	EXPECT_EQ(apic.read(ApicRegister::dfr), 0x0fffffffu);
	apic.write(ApicRegister::icr, 0xffffffff);
	EXPECT_EQ(apic.read(ApicRegister::icr), 0xffffefffu);
}

TEST(LapicRegisters, ReadOnlyRegistersIgnoreWrites)
{
	Apic apic;
	apic.enable();
	for (u32 where :
		{0x30u, 0x90u, 0xa0u, 0xc0u, 0x100u, 0x170u, 0x180u, 0x200u, 0x270u, 0x390u}) {
		const u64 before = apic->read_mmio(where, 4);
		EXPECT_EQ(apic->write_mmio(where, 4, 0xffffffff).kind, Kind::none);
		EXPECT_EQ(apic->read_mmio(where, 4), before) << std::hex << where;
	}
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 0u) << "no error";
}

TEST(LapicRegisters, AccessesMustBeAlignedDwords)
{
	Apic apic{7};
	apic.enable();
	EXPECT_EQ(apic->read_mmio(0x23, 1), 0x07u);
	EXPECT_EQ(apic->read_mmio(0x22, 2), 0x0700u);
	EXPECT_EQ(apic->read_mmio(0x22, 4), 0u);
	EXPECT_EQ(apic->read_mmio(0x24, 4), 0u);
	EXPECT_EQ(apic->read_mmio(0x20, 8), 0u);
	EXPECT_EQ(apic->read_mmio(0x20, 0), 0u);
	apic->write_mmio(0x80, 1, 0x40);
	apic->write_mmio(0x84, 4, 0x40);
	apic->write_mmio(0x80, 8, 0x40);
	EXPECT_EQ(apic.read(ApicRegister::tpr), 0u);
	apic->write_mmio(0x80, 4, 0x40);
	EXPECT_EQ(apic.read(ApicRegister::tpr), 0x40u);
}

TEST(LapicRegisters, ReservedRegistersAreAnError)
{
	for (u32 where : {0x00u, 0x10u, 0x40u, 0x70u, 0x290u, 0x2e0u, 0x2f0u, 0x3a0u, 0x3f0u,
		     0x400u, 0xff0u}) {
		for (bool write : {false, true}) {
			Apic apic;
			apic.enable();
			apic.write(ApicRegister::lvt_error, 0x77);
			if (write)
				apic->write_mmio(where, 4, 0x41);
			else
				EXPECT_EQ(apic->read_mmio(where, 4), 0u);
			EXPECT_EQ(apic.take(), 0x77) << std::hex << where;
			apic.write(ApicRegister::esr, 0);
			EXPECT_EQ(apic.read(ApicRegister::esr), 1u << 7) << std::hex << where;
		}
	}
}

TEST(LapicRegisters, CmciExistsWhereMcgCapSaysSo)
{
	Apic apic;
	apic->set_features({.cmci = true});
	apic.enable();
	EXPECT_EQ(apic.read(ApicRegister::version), 0x00060014u);
	apic->write_mmio(0x2f0, 4, 0xf4);
	EXPECT_EQ(apic->read_mmio(0x2f0, 4), 0xf4u);
	EXPECT_TRUE(apic->local_interrupt(LocalSource::cmci));
	EXPECT_EQ(apic.take(), 0xf4);
}

TEST(LapicRegisters, SoftwareDisableMasksAndKeepsMasked)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_lint1, 0x400);
	EXPECT_EQ(apic.write(ApicRegister::svr, 0xff).kind, Kind::identity);
	EXPECT_FALSE(apic->identity().software_enabled);
	EXPECT_EQ(apic.read(ApicRegister::lvt_lint1), 0x10400u);
	apic.write(ApicRegister::lvt_lint1, 0x400);
	EXPECT_EQ(apic.read(ApicRegister::lvt_lint1), 0x10400u);
	EXPECT_EQ(apic.write(ApicRegister::svr, 0x1ff).kind, Kind::identity);
	EXPECT_EQ(apic.write(ApicRegister::svr, 0x1f0).kind, Kind::none)
		<< "nothing changed for others";
	apic.write(ApicRegister::lvt_lint1, 0x400);
	EXPECT_EQ(apic.read(ApicRegister::lvt_lint1), 0x400u);
}

TEST(LapicRegisters, IdentityFollowsIdAndDestinationRegisters)
{
	Apic apic{2};
	EXPECT_EQ(apic.write(ApicRegister::id, 0x33000000).kind, Kind::identity);
	EXPECT_EQ(apic.write(ApicRegister::ldr, 0x80000000).kind, Kind::identity);
	EXPECT_EQ(apic.write(ApicRegister::dfr, 0x0fffffff).kind, Kind::identity);
	const Identity identity = apic->identity();
	EXPECT_EQ(identity.id, 2u);
	EXPECT_EQ(identity.xapic_id, 0x33);
	EXPECT_EQ(identity.logical_id, 0x80);
	EXPECT_EQ(identity.model, 0);
}

TEST(LapicRegisters, CommandBecomesAMessage)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::icr_high, 0x05000000);
	auto effect = apic.write(ApicRegister::icr, 0x4041);
	ASSERT_EQ(effect.kind, Kind::send);
	EXPECT_EQ(effect.message, (Message{.destination = 5, .vector = 0x41, .narrow = true}));
	effect = apic.write(ApicRegister::icr, 0xc500);
	ASSERT_EQ(effect.kind, Kind::send);
	EXPECT_EQ(effect.message.delivery, Delivery::init);
	EXPECT_TRUE(effect.message.level && effect.message.asserted);
	effect = apic.write(ApicRegister::icr, 0x8500);
	EXPECT_FALSE(effect.message.asserted);
	effect = apic.write(ApicRegister::icr, 0xc4609);
	EXPECT_EQ(effect.message.delivery, Delivery::startup);
	EXPECT_EQ(effect.message.vector, 9);
	EXPECT_EQ(effect.message.shorthand, Shorthand::others);
	effect = apic.write(ApicRegister::icr, 0x84941);
	EXPECT_EQ(effect.message.shorthand, Shorthand::all);
	EXPECT_EQ(effect.message.delivery, Delivery::lowest_priority);
	EXPECT_TRUE(effect.message.logical);
	EXPECT_EQ(apic.read(ApicRegister::icr), 0x84941u) << "and delivery status reads idle";
}

TEST(LapicRegisters, ASelfIpiStaysHere)
{
	Apic apic;
	apic.enable();
	EXPECT_EQ(apic.write(ApicRegister::icr, 0x44041).kind, Kind::none);
	EXPECT_EQ(apic.take(), 0x41);
}

TEST(LapicRegisters, CommandsThatCannotBeSent)
{
	Apic apic;
	apic.enable();
	for (u32 delivery : {0x300u, 0x700u})
		EXPECT_EQ(apic.write(ApicRegister::icr, 0x4041 | delivery).kind, Kind::none);
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 0u);
	for (u32 value : {0x400fu, 0x4105u, 0x44003u})
		EXPECT_EQ(apic.write(ApicRegister::icr, value).kind, Kind::none);
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 1u << 5);
	EXPECT_EQ(apic.pending(), 0);
	EXPECT_EQ(apic.write(ApicRegister::icr, 0x4400).kind, Kind::send) << "an NMI has no vector";
	EXPECT_EQ(apic.write(ApicRegister::icr, 0x44200).message.delivery, Delivery::smi);
}

// --- x2APIC
// ---------------------------------------------------------------------------------------

TEST(LapicX2apic, MsrsFaultOutsideX2apicMode)
{
	Apic apic;
	EXPECT_FALSE(apic->read_msr(0x802));
	EXPECT_EQ(apic->write_msr(0x808, 0).kind, Kind::fault);
}

// SDM vol. 3, table 11-6.
TEST(LapicX2apic, EveryMsrIsReadableOrWritableAsTheTableSays)
{
	const auto in = [](u32 index, std::initializer_list<std::pair<u32, u32>> ranges) {
		for (auto [first, last] : ranges)
			if (index >= first && index <= last)
				return true;
		return false;
	};
	for (u32 index = 0x7f0; index <= 0x910; ++index) {
		Apic apic{1, true};
		apic.enable();
		const bool readable = in(index,
			{{0x802, 0x803}, {0x808, 0x808}, {0x80a, 0x80a}, {0x80d, 0x80d},
				{0x80f, 0x828}, {0x830, 0x830}, {0x832, 0x839}, {0x83e, 0x83e}});
		const bool writable =
			in(index, {{0x808, 0x808}, {0x80b, 0x80b}, {0x80f, 0x80f}, {0x828, 0x828},
					  {0x830, 0x830}, {0x832, 0x838}, {0x83e, 0x83f}});
		EXPECT_EQ(apic->read_msr(index).has_value(), readable) << std::hex << index;
		EXPECT_EQ(apic->write_msr(index, 0).kind != Kind::fault, writable)
			<< std::hex << index;
	}
	Apic apic{1, true};
	EXPECT_FALSE(apic->read_msr(0xffffffff));
	EXPECT_FALSE(apic->read_msr(0x10000800 / 16)) << "an index whose offset wraps";
	EXPECT_EQ(apic->write_msr(0x80000808, 0).kind, Kind::fault);
}

TEST(LapicX2apic, ReservedBitsFaultAndChangeNothing)
{
	Apic apic{1, true};
	apic.enable();
	const struct {
		ApicRegister name;
		u64 allowed;
	} rows[] = {
		{ApicRegister::tpr, 0xff},
		{ApicRegister::eoi, 0},
		{ApicRegister::svr, 0x3ff},
		{ApicRegister::esr, 0},
		{ApicRegister::icr, 0xffffffff000cdfff},
		{ApicRegister::lvt_timer, 0x710ff},
		{ApicRegister::lvt_thermal, 0x117ff},
		{ApicRegister::lvt_pmc, 0x117ff},
		{ApicRegister::lvt_lint0, 0x1f7ff},
		{ApicRegister::lvt_lint1, 0x1f7ff},
		{ApicRegister::lvt_error, 0x110ff},
		{ApicRegister::initial_count, 0xffffffff},
		{ApicRegister::divide, 0xb},
		{ApicRegister::self_ipi, 0xff},
	};
	for (const auto &row : rows) {
		for (unsigned n = 0; n < 64; ++n) {
			const auto before = apic->read_msr(msr(row.name));
			const bool faults =
				apic->write_msr(msr(row.name), bit(n)).kind == Kind::fault;
			EXPECT_EQ(faults, !(row.allowed & bit(n)))
				<< std::hex << msr(row.name) << " " << n;
			if (faults) {
				EXPECT_EQ(apic->read_msr(msr(row.name)), before);
			}
		}
	}
}

TEST(LapicX2apic, IdAndLogicalIdAreWideAndReadOnly)
{
	Apic apic{0x12345, true};
	EXPECT_EQ(apic.read(ApicRegister::id), 0x12345u);
	EXPECT_EQ(apic.read(ApicRegister::ldr), 0x1234u << 16 | 1u << 5);
	EXPECT_TRUE(matches(apic->identity(), {.destination = 0x12345}));
}

TEST(LapicX2apic, CommandIsOneRegister)
{
	Apic apic{1, true};
	apic.enable();
	const u64 value = u64{0x00020008} << 32 | 0x4841;
	const auto effect = apic->write_msr(0x830, value);
	ASSERT_EQ(effect.kind, Kind::send);
	EXPECT_EQ(
		effect.message, (Message{.destination = 0x20008, .vector = 0x41, .logical = true}));
	EXPECT_EQ(apic->read_msr(0x830), value);
	EXPECT_EQ(apic->write_msr(0x830, value | 1 << 12).kind, Kind::send);
	EXPECT_EQ(apic->read_msr(0x830), value) << "delivery status reads 0";
}

TEST(LapicX2apic, SelfIpi)
{
	Apic apic{1, true};
	apic.enable();
	EXPECT_EQ(apic.write(ApicRegister::self_ipi, 0x93).kind, Kind::none);
	EXPECT_EQ(apic.take(), 0x93);
	apic.write(ApicRegister::self_ipi, 0x05);
	EXPECT_EQ(apic.pending(), 0);
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 1u << 5);
}

} // namespace kvmpp::tests
