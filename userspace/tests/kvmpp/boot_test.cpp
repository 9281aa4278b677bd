// SPDX-License-Identifier: GPL-2.0-only
// Kernel images: which are refused and why, and what lies in memory when one is loaded.
#include <array>
#include <asm/bootparam.h>
#include <cstdio>
#include <cstring>
#include <gtest/gtest.h>
#include <unistd.h>
#include <vector>
#include "kvmpp/refusal.h"
#include "kvmpp/run/boot.h"
#include "kvmpp/run/layout.h"

namespace kvmpp::command
{
namespace
{

using lib::u64;

class TemporaryFile {
public:
	explicit TemporaryFile(const std::string &content)
	{
		char name[] = "/tmp/kvmpp-test-XXXXXX";
		const lib::FileDescriptor file{::mkstemp(name)};
		path_ = name;
		EXPECT_EQ(::write(file.number(), content.data(), content.size()),
			static_cast<ssize_t>(content.size()));
	}
	~TemporaryFile() { ::unlink(path_.c_str()); }
	const std::string &path() const { return path_; }

private:
	std::string path_;
};

constexpr u64 mib = 1 << 20;

struct BootTest : testing::Test {
	setup_header header{};
	std::string payload = "the protected-mode code";

	BootTest()
	{
		header.setup_sects = 3;
		header.boot_flag = 0xaa55;
		header.header = 0x53726448;
		header.version = 0x020f;
		header.loadflags = LOADED_HIGH;
		header.relocatable_kernel = 1;
		header.xloadflags = XLF_KERNEL_64;
		header.initrd_addr_max = 0x7fffffff;
		header.cmdline_size = 100;
		header.pref_address = 16 * mib;
		header.init_size = 4 * mib;
		// The jump over the header: its operand says where the header ends.
		const auto end = sizeof(header) - offsetof(setup_header, jump) - 2;
		header.jump = static_cast<lib::u16>(0xeb | end << 8);
	}

	std::string image() const
	{
		std::string file(4 * 512, '\0');
		std::memcpy(file.data() + 0x1f1, &header, sizeof(header));
		return file + payload;
	}

	std::string refusal_of(const std::string &content) const
	{
		const TemporaryFile file{content};
		try {
			KernelImage image{file.path()};
			return {};
		} catch (const Refusal &refusal) {
			return refusal.what() + file.path().size() + 1;
		}
	}

	template <class T>
	static T at(const std::vector<std::byte> &memory, u64 address)
	{
		T value;
		std::memcpy(&value, memory.data() + address, sizeof(T));
		return value;
	}

	BootRequest request(const TemporaryFile &kernel, u64 memory) const
	{
		return {KernelImage{kernel.path()}, {}, "console=ttyS0", memory, 1};
	}
};

TEST_F(BootTest, refuses_what_is_not_a_64_bit_bzimage)
{
	EXPECT_EQ(refusal_of(image()), "");
	EXPECT_NE(refusal_of("").find("not a Linux kernel"), std::string::npos);
	EXPECT_NE(
		refusal_of("\177ELF" + std::string(1000, 'x')).find("bzImage"), std::string::npos);

	const setup_header good = header;
	header.xloadflags = 0;
	EXPECT_NE(refusal_of(image()).find("32-bit"), std::string::npos);
	header = good;
	header.version = 0x020b;
	EXPECT_NE(refusal_of(image()).find("too old"), std::string::npos);
	header = good;
	header.loadflags = 0;
	EXPECT_NE(refusal_of(image()).find("cannot be loaded at 1 MiB"), std::string::npos);
	header = good;
	header.syssize = 1000;
	EXPECT_EQ(refusal_of(image()), "ends too early");
	header = good;
	header.setup_sects = 255;
	EXPECT_EQ(refusal_of(image()), "ends too early");
}

TEST_F(BootTest, refuses_a_file_that_is_none)
{
	EXPECT_THROW(KernelImage{"/nonexistent"}, Refusal);
	EXPECT_THROW(KernelImage{"/"}, Refusal);
	EXPECT_THROW(KernelImage{"/dev/zero"}, Refusal);
}

TEST_F(BootTest, header_fields_that_an_older_kernel_has_not_are_zero)
{
	header.jump = static_cast<lib::u16>(
		0xeb | (offsetof(setup_header, init_size) - offsetof(setup_header, jump) - 2) << 8);
	const TemporaryFile file{image()};
	const KernelImage kernel{file.path()};
	EXPECT_EQ(kernel.header().init_size, 0u);
	EXPECT_EQ(kernel.header().pref_address, header.pref_address);
}

TEST_F(BootTest, memory_holds_kernel_initrd_command_line_and_map)
{
	const TemporaryFile kernel{image()}, initrd{std::string(5000, 'i')};
	BootRequest asked = request(kernel, 32 * mib);
	asked.initrd.emplace(initrd.path());
	std::vector<std::byte> memory(asked.memory);
	load(memory, asked);

	EXPECT_EQ(std::memcmp(memory.data() + layout::kernel, payload.data(), payload.size()), 0);
	const auto zero_page = at<boot_params>(memory, layout::zero_page);
	EXPECT_EQ(zero_page.hdr.type_of_loader, 0xff);
	EXPECT_STREQ(reinterpret_cast<const char *>(memory.data() + zero_page.hdr.cmd_line_ptr),
		"console=ttyS0");
	EXPECT_EQ(zero_page.hdr.ramdisk_image, 32 * mib - 8192);
	EXPECT_EQ(zero_page.hdr.ramdisk_size, 5000u);
	EXPECT_EQ(memory[zero_page.hdr.ramdisk_image + 4999], std::byte{'i'});
	EXPECT_EQ(std::memcmp(memory.data() + zero_page.acpi_rsdp_addr, "RSD PTR ", 8), 0);

	ASSERT_EQ(zero_page.e820_entries, 3);
	EXPECT_EQ(zero_page.e820_table[2].addr, mib);
	EXPECT_EQ(zero_page.e820_table[2].size, 31 * mib);

	// The page tables: 1 GiB onto itself.
	const u64 pdpt = at<u64>(memory, layout::page_tables) & ~0xfffull;
	const u64 directory = at<u64>(memory, pdpt) & ~0xfffull;
	for (u64 i = 0; i < 512; i++)
		EXPECT_EQ(at<u64>(memory, directory + i * 8), i * 2 * mib | 0x83);
}

TEST_F(BootTest, memory_beyond_the_device_hole_is_above_4_gib)
{
	const u64 gib = 1 << 30;
	EXPECT_EQ(low_memory(gib), gib);
	EXPECT_EQ(low_memory(3 * gib), 3 * gib);
	EXPECT_EQ(low_memory(5 * gib), 3 * gib);
	// Enough to look at the map: what is loaded lies far below.
	const TemporaryFile kernel{image()};
	std::vector<std::byte> memory(32 * mib);
	BootRequest asked = request(kernel, memory.size() + 2 * gib);
	load(memory, asked);
	const auto zero_page = at<boot_params>(memory, layout::zero_page);
	ASSERT_EQ(zero_page.e820_entries, 4);
	EXPECT_EQ(zero_page.e820_table[3].addr, layout::high_memory);
	EXPECT_EQ(zero_page.e820_table[3].size, 2 * gib);
}

TEST_F(BootTest, says_what_does_not_fit)
{
	const auto why = [&](const BootRequest &asked) -> std::string {
		std::vector<std::byte> memory(asked.memory);
		try {
			load(memory, asked);
			return {};
		} catch (const Refusal &refusal) {
			return refusal.what();
		}
	};
	const TemporaryFile kernel{image()}, initrd{std::string(4 * mib, 'i')};
	EXPECT_NE(why(request(kernel, 18 * mib)).find("needs 20 MiB"), std::string::npos);

	BootRequest asked = request(kernel, 22 * mib);
	asked.initrd.emplace(initrd.path());
	EXPECT_NE(why(asked).find("does not fit into 22 MiB"), std::string::npos);
	asked.memory = 24 * mib;
	EXPECT_EQ(why(asked), "");

	asked.command_line = std::string(100, 'a');
	EXPECT_EQ(why(asked), "");
	asked.command_line += 'a';
	EXPECT_NE(why(asked).find("101 characters"), std::string::npos);
}

} // namespace
} // namespace kvmpp::command
