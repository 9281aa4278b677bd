// SPDX-License-Identifier: GPL-2.0-only
// Building the ACPI tables.
#include "kvmpp/run/acpi.h"

#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>
#include "kvmpp/run/layout.h"

namespace kvmpp::command
{

using lib::u16;
using lib::u32;
using lib::u64;
using lib::u8;

namespace
{

// A table under construction: fields are appended in the order in which the specification has them.
class Bytes {
public:
	template <class T>
	requires std::is_integral_v<T> Bytes &add(T value)
	{
		const auto *bytes = reinterpret_cast<const u8 *>(&value);
		bytes_.insert(bytes_.end(), bytes, bytes + sizeof(value));
		return *this;
	}
	Bytes &text(std::string_view text)
	{
		bytes_.insert(bytes_.end(), text.begin(), text.end());
		return *this;
	}
	Bytes &zeros(std::size_t count)
	{
		bytes_.resize(bytes_.size() + count);
		return *this;
	}
	// Zeros up to that offset.
	Bytes &until(std::size_t offset) { return zeros(offset - bytes_.size()); }

	u8 &operator[](std::size_t offset) { return bytes_[offset]; }
	const u8 *data() const { return bytes_.data(); }
	std::size_t size() const { return bytes_.size(); }

	// Makes bytes [start, end) sum to zero by the one at `place`.
	void balance(std::size_t start, std::size_t end, std::size_t place)
	{
		const u8 *first = bytes_.data();
		bytes_[place] = static_cast<u8>(
			bytes_[place] - std::accumulate(first + start, first + end, u8{}));
	}

private:
	std::vector<u8> bytes_;
};

constexpr std::size_t length_offset = 4;
constexpr std::size_t checksum_offset = 9;
constexpr std::string_view oem = "KVMPP ";
constexpr std::string_view oem_table = "KVMPPRUN";

// 5.2.6: the header of every table; its length and checksum come with finish().
Bytes table(std::string_view signature, u8 revision)
{
	Bytes bytes;
	bytes.text(signature).add(u32{}).add(revision).add(u8{}).text(oem).text(oem_table);
	bytes.add(u32{1}).text("KVPP").add(u32{1});
	return bytes;
}

Bytes finish(Bytes bytes)
{
	const auto length = static_cast<u32>(bytes.size());
	std::memcpy(&bytes[length_offset], &length, sizeof(length));
	bytes.balance(0, length, checksum_offset);
	return bytes;
}

// 5.2.3.2: an address in I/O space.
void add_port(Bytes &bytes, u16 port, u8 bits)
{
	constexpr u8 io_space = 1;
	const u8 access_size = bits == 8 ? 1 : bits == 16 ? 2 : 3;
	bytes.add(io_space).add(bits).add(u8{}).add(access_size).add(u64{port});
}

// 5.2.12
Bytes madt(unsigned cpus)
{
	Bytes bytes = table("APIC", 4);
	bytes.add(static_cast<u32>(layout::local_apic)).add(u32{1}); // there are 8259s as well
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		const u8 id = static_cast<u8>(cpu);
		bytes.add(u8{0}).add(u8{8}).add(id).add(id).add(u32{1}); // local APIC, enabled
	}
	const u8 ioapic_id = static_cast<u8>(cpus);
	bytes.add(u8{1}).add(u8{12}).add(ioapic_id).add(u8{}).add(static_cast<u32>(layout::ioapic));
	bytes.add(u32{}); // its first interrupt
	// ISA interrupts reach the IOAPIC's pins of the same numbers; ACPI's own is level-triggered
	// and active high.
	constexpr u16 level_high = 0xd;
	constexpr u8 acpi_irq = layout::acpi_irq;
	bytes.add(u8{2}).add(u8{10}).add(u8{}).add(acpi_irq).add(u32{acpi_irq}).add(level_high);
	return finish(std::move(bytes));
}

// 5.2.11.1, and chapter 20 for the encoding: Name (\_S5, Package {5, 5, 0, 0})
Bytes dsdt()
{
	constexpr u8 name_op = 0x08, package_op = 0x12, byte_prefix = 0x0a;
	constexpr u8 type = acpi_soft_off;
	Bytes bytes = table("DSDT", 2);
	bytes.add(name_op).text("_S5_").add(package_op);
	bytes.add(u8{8}).add(u8{4}); // the package's length in bytes, itself included; its elements
	bytes.add(byte_prefix).add(type).add(byte_prefix).add(type).add(u8{}).add(u8{});
	return finish(std::move(bytes));
}

// 5.2.10: no checksum, and aligned to 64 bytes.
Bytes facs()
{
	constexpr u32 length = 64;
	Bytes bytes;
	bytes.text("FACS").add(length).until(length);
	return bytes;
}

// 5.2.9
Bytes fadt(u64 facs_address, u64 dsdt_address)
{
	constexpr u16 no_vga = 1 << 2, no_msi = 1 << 3, no_aspm = 1 << 4;
	constexpr u32 wbinvd = 1 << 0, c1 = 1 << 2, no_power_button = 1 << 4,
		      no_sleep_button = 1 << 5, reset_register = 1 << 10;
	constexpr u16 no_c2 = 0xffff, no_c3 = 0xffff;

	Bytes bytes = table("FACP", 6);
	bytes.add(static_cast<u32>(facs_address)).add(static_cast<u32>(dsdt_address));
	bytes.add(u8{}).add(u8{}).add(u16{layout::acpi_irq});
	bytes.until(56); // no SMI command: the machine is always in ACPI mode
	bytes.add(u32{layout::pm1_event}).add(u32{}).add(u32{layout::pm1_control});
	bytes.until(88).add(u8{4}).add(u8{2}); // lengths of the PM1 event and control blocks
	bytes.until(96).add(no_c2).add(no_c3);
	bytes.until(109).add(static_cast<u16>(no_vga | no_msi | no_aspm));
	bytes.until(112).add(wbinvd | c1 | no_power_button | no_sleep_button | reset_register);
	add_port(bytes, layout::reset_port, 8);
	bytes.add(acpi_reset_value);
	bytes.until(131).add(u8{4}); // minor version
	bytes.until(140).add(dsdt_address);
	add_port(bytes, layout::pm1_event, 32);
	bytes.until(172);
	add_port(bytes, layout::pm1_control, 16);
	bytes.until(276);
	return finish(std::move(bytes));
}

Bytes xsdt(std::initializer_list<u64> tables)
{
	Bytes bytes = table("XSDT", 1);
	for (const u64 address : tables)
		bytes.add(address);
	return finish(std::move(bytes));
}

// 5.2.5.3: with a checksum of the part that ACPI 1.0 knew, and one of the whole.
Bytes rsdp(u64 xsdt_address)
{
	constexpr u8 acpi_2 = 2;
	constexpr std::size_t old_length = 20;
	constexpr u32 length = 36;
	Bytes bytes;
	bytes.text("RSD PTR ").add(u8{}).text(oem).add(acpi_2).add(u32{});
	bytes.add(length).add(xsdt_address).until(length);
	bytes.balance(0, old_length, 8);
	bytes.balance(0, length, 32);
	return bytes;
}

// Places tables one behind the other.
class Area {
public:
	Area(std::span<std::byte> area, std::size_t used) : area_{area}, used_{used} {}

	u64 store(const Bytes &table)
	{
		constexpr std::size_t alignment = 64;
		const u64 offset = used_;
		std::memcpy(area_.subspan(offset, table.size()).data(), table.data(), table.size());
		used_ = (used_ + table.size() + alignment - 1) / alignment * alignment;
		return layout::acpi + offset;
	}

private:
	std::span<std::byte> area_;
	std::size_t used_;
};

} // namespace

void store_acpi_tables(std::span<std::byte> area, unsigned cpus)
{
	Area behind_rsdp{area, 64};
	const u64 facs_address = behind_rsdp.store(facs());
	const u64 dsdt_address = behind_rsdp.store(dsdt());
	const u64 fadt_address = behind_rsdp.store(fadt(facs_address, dsdt_address));
	const u64 madt_address = behind_rsdp.store(madt(cpus));
	const u64 xsdt_address = behind_rsdp.store(xsdt({fadt_address, madt_address}));
	Area{area, 0}.store(rsdp(xsdt_address));
}

} // namespace kvmpp::command
