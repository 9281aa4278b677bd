// SPDX-License-Identifier: GPL-2.0-only
// The ACPI tables, walked as an operating system walks them.
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <string>
#include <vector>
#include "kvmpp/run/acpi.h"
#include "kvmpp/run/layout.h"

namespace kvmpp::command
{
namespace
{

using lib::u16;
using lib::u32;
using lib::u64;
using lib::u8;

class Tables {
public:
	explicit Tables(unsigned cpus)
	{
		store_acpi_tables(std::as_writable_bytes(std::span{area_}), cpus);
	}

	template <class T>
	T at(u64 address) const
	{
		T value;
		std::memcpy(&value, bytes(address, sizeof(T)).data(), sizeof(T));
		return value;
	}
	std::string text(u64 address, std::size_t size) const
	{
		const auto span = bytes(address, size);
		return {span.begin(), span.end()};
	}
	u8 sum(u64 address, std::size_t size) const
	{
		const auto span = bytes(address, size);
		return std::accumulate(span.begin(), span.end(), u8{});
	}
	// By signature; every checksum on the way is right.
	std::map<std::string, u64> found() const
	{
		std::map<std::string, u64> tables;
		const u64 xsdt = at<u64>(layout::acpi + 24);
		EXPECT_EQ(text(xsdt, 4), "XSDT");
		for (u64 i = xsdt + 36; i < xsdt + at<u32>(xsdt + 4); i += 8)
			tables[text(at<u64>(i), 4)] = at<u64>(i);
		tables["XSDT"] = xsdt;
		tables["DSDT"] = at<u64>(tables.at("FACP") + 140);
		for (const auto &[name, address] : tables)
			EXPECT_EQ(sum(address, at<u32>(address + 4)), 0) << name;
		return tables;
	}

private:
	std::span<const u8> bytes(u64 address, std::size_t size) const
	{
		EXPECT_LE(address - layout::acpi + size, area_.size());
		return std::span{area_}.subspan(address - layout::acpi, size);
	}

	std::vector<u8> area_ = std::vector<u8>(layout::acpi_end - layout::acpi);
};

TEST(Acpi, rsdp_has_both_checksums)
{
	const Tables tables{1};
	EXPECT_EQ(tables.text(layout::acpi, 8), "RSD PTR ");
	EXPECT_EQ(tables.sum(layout::acpi, 20), 0);
	EXPECT_EQ(tables.sum(layout::acpi, 36), 0);
}

TEST(Acpi, fadt_has_power_off_and_reset_where_the_specification_says)
{
	const Tables tables{1};
	const u64 fadt = tables.found().at("FACP");
	EXPECT_EQ(tables.at<u32>(fadt + 4), 276u);
	EXPECT_EQ(tables.at<u16>(fadt + 46), layout::acpi_irq);
	EXPECT_EQ(tables.at<u32>(fadt + 56), layout::pm1_event);
	EXPECT_EQ(tables.at<u32>(fadt + 64), layout::pm1_control);
	EXPECT_EQ(tables.at<u8>(fadt + 88), 4);
	EXPECT_EQ(tables.at<u8>(fadt + 89), 2);
	EXPECT_TRUE(tables.at<u32>(fadt + 112) & 1 << 10);
	EXPECT_EQ(tables.at<u64>(fadt + 120), layout::reset_port);
	EXPECT_EQ(tables.at<u8>(fadt + 128), acpi_reset_value);
	EXPECT_EQ(tables.at<u64>(fadt + 152), layout::pm1_event);
	EXPECT_EQ(tables.at<u64>(fadt + 176), layout::pm1_control);

	const u64 facs = tables.at<u32>(fadt + 36);
	EXPECT_EQ(tables.text(facs, 4), "FACS");
	EXPECT_EQ(facs % 64, 0u);
}

TEST(Acpi, dsdt_names_the_soft_off_state)
{
	const Tables tables{1};
	const u64 dsdt = tables.found().at("DSDT");
	EXPECT_EQ(tables.at<u32>(dsdt + 4), 36u + 14);
	EXPECT_EQ(tables.text(dsdt + 37, 4), "_S5_");
	EXPECT_EQ(tables.at<u8>(dsdt + 42), 36 + 14 - 42); // the package reaches to the end
}

TEST(Acpi, madt_lists_every_processor_once)
{
	for (const unsigned cpus : {1u, 2u, 254u}) {
		const Tables tables{cpus};
		const u64 madt = tables.found().at("APIC");
		const u64 end = madt + tables.at<u32>(madt + 4);
		unsigned processors = 0, ioapics = 0;
		for (u64 entry = madt + 44; entry < end; entry += tables.at<u8>(entry + 1)) {
			ASSERT_NE(tables.at<u8>(entry + 1), 0);
			if (tables.at<u8>(entry) == 0) {
				EXPECT_EQ(tables.at<u8>(entry + 3), processors++);
			}
			if (tables.at<u8>(entry) == 1) {
				EXPECT_EQ(tables.at<u8>(entry + 2), cpus);
				EXPECT_EQ(tables.at<u32>(entry + 4), layout::ioapic);
				ioapics++;
			}
		}
		EXPECT_EQ(processors, cpus);
		EXPECT_EQ(ioapics, 1u);
	}
}

} // namespace
} // namespace kvmpp::command
