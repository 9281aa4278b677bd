// SPDX-License-Identifier: GPL-2.0-only
// Loads another kernel into the machine with kexec_load(2): the x86 boot protocol with the little that
// the test host's kernels need. (kexec_file_load(2) hashes everything, which takes an emulated CPU
// half a minute.)
#pragma once

#include <asm/bootparam.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "files.h"
#include "kvm.h"

namespace kvmpp::selftests
{

// A whole file in memory.
struct Mapped {
	explicit Mapped(const char *path)
	{
		Fd file{open(path, O_RDONLY | O_CLOEXEC)};
		struct stat status;
		REQUIRE(file.number() >= 0 && fstat(file.number(), &status) == 0);
		size = static_cast<u64>(status.st_size);
		void *memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
		REQUIRE(memory != MAP_FAILED);
		bytes = static_cast<const u8 *>(memory);
	}

	const u8 *bytes;
	u64 size;
};

struct Region {
	u64 start, end;
};

// Where the kernel keeps memory for the one after a crash.
inline Region crash_region()
{
	static char text[16384];
	unsigned long long start = 0, end = 0;
	read_text("/proc/iomem", text, sizeof text);
	for (char *line = strtok(text, "\n"); line; line = strtok(nullptr, "\n"))
		if (strstr(line, "Crash kernel"))
			sscanf(line, "%llx-%llx", &start, &end);
	REQUIRE(end > start);
	return {start, end + 1};
}

// The firmware's map, of which a kernel after a crash gets the lowest RAM and its region only: all else
// belongs to the one that crashed.
inline void copy_memory_map(boot_params &parameters, const Region *only)
{
	auto number = [](unsigned entry, const char *name) {
		char path[64], text[64];
		snprintf(path, sizeof path, "/sys/firmware/memmap/%u/%s", entry, name);
		return read_text(path, text, sizeof text) ? strtoull(text, nullptr, 16) : ~0ull;
	};
	auto add = [&](u64 start, u64 end, u32 type) {
		REQUIRE(parameters.e820_entries < E820_MAX_ENTRIES_ZEROPAGE);
		parameters.e820_table[parameters.e820_entries++] = {start, end - start, type};
	};
	char path[64], type[64];
	for (unsigned i = 0; number(i, "start") != ~0ull; ++i) {
		u64 start = number(i, "start"), end = number(i, "end") + 1;
		snprintf(path, sizeof path, "/sys/firmware/memmap/%u/type", i);
		read_text(path, type, sizeof type);
		if (!strncmp(type, "ACPI Tables", 11))
			add(start, end, 3);
		else if (strncmp(type, "System RAM", 10))
			add(start, end, 2);
		else if (!only || start < 0x100000)
			add(start, end, 1);
	}
	if (only)
		add(only->start, only->end, 1);
}

// What kexec jumps to: RSI has to point to the parameters.
struct Entry {
	u8 mov_rsi[2] = {0x48, 0xbe};
	u64 parameters;
	u8 mov_rax[2] = {0x48, 0xb8};
	u64 kernel;
	u8 jmp_rax[2] = {0xff, 0xe0};
} __attribute__((packed));

inline void load_successor(
	const char *kernel_path, const char *initramfs_path, const char *words, bool for_crash)
{
	Mapped kernel{kernel_path}, initramfs{initramfs_path};
	Region crash{}, place{16 << 20, 512 << 20};
	if (for_crash)
		place = crash = crash_region();

	// One page of parameters, one of words, one for the way in; the kernel; its initramfs.
	static boot_params parameters;
	static_assert(sizeof parameters == page);
	constexpr u64 header_at = offsetof(boot_params, hdr);
	memcpy(&parameters.hdr, kernel.bytes + header_at,
		kernel.bytes[header_at + 0x10] + 0x202 - header_at);
	setup_header &header = parameters.hdr;
	REQUIRE_EQ(header.header, 0x53726448u); // HdrS
	u64 skipped = (header.setup_sects + 1) * 512u;
	u64 kernel_at = up(place.start + 3 * page, header.kernel_alignment);
	u64 initramfs_at = up(kernel_at + header.init_size, page);
	REQUIRE(initramfs_at + initramfs.size <= place.end);

	static char words_page[page];
	REQUIRE(strlen(words) < sizeof words_page);
	strcpy(words_page, words);
	header.type_of_loader = 0xff;
	header.cmd_line_ptr = static_cast<u32>(place.start + page);
	header.ramdisk_image = static_cast<u32>(initramfs_at);
	header.ramdisk_size = static_cast<u32>(initramfs.size);
	copy_memory_map(parameters, for_crash ? &crash : nullptr);
	Entry entry{.parameters = place.start, .kernel = kernel_at + 0x200};

	u64 entry_at = place.start + 2 * page;
	auto at = [](u64 address) { return reinterpret_cast<void *>(address); };
	struct {
		const void *from;
		size_t size;
		void *to;
		size_t room;
	} segments[] = {
		{&parameters, page, at(place.start), page},
		{words_page, page, at(place.start + page), page},
		{&entry, sizeof entry, at(entry_at), page},
		{kernel.bytes + skipped, kernel.size - skipped, at(kernel_at),
			up(header.init_size, page)},
		{initramfs.bytes, initramfs.size, at(initramfs_at), up(initramfs.size, page)},
	};
	long answer = syscall(SYS_kexec_load, entry_at, sizeof segments / sizeof *segments, segments,
		KEXEC_ARCH_DEFAULT | (for_crash ? KEXEC_ON_CRASH : 0));
	REQUIRE_EQ(answer < 0 ? -errno : answer, 0);
}

} // namespace kvmpp::selftests
