// SPDX-License-Identifier: GPL-2.0-only
// The 64-bit boot protocol (the kernel's Documentation/x86/boot.rst).
#include "kvmpp/run/boot.h"

#include <algorithm>
#include <array>
#include <asm/processor-flags.h>
#include <cstring>
#include "kvmpp/refusal.h"
#include "kvmpp/run/acpi.h"
#include "kvmpp/run/layout.h"

namespace kvmpp::command
{

using lib::u16;
using lib::u32;
using lib::u64;
using lib::u8;

namespace
{

constexpr u64 page = 4096;
constexpr u32 e820_ram = 1;
constexpr u32 e820_reserved = 2;

// Selectors that the protocol prescribes.
constexpr u16 code_selector = 0x10;
constexpr u16 data_selector = 0x18;

std::string in_mib(u64 bytes)
{
	return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

std::span<std::byte> at(std::span<std::byte> memory, u64 address, u64 size)
{
	return memory.subspan(address, size);
}

template <class T>
void store(std::span<std::byte> memory, u64 address, const T &value)
{
	std::memcpy(at(memory, address, sizeof(value)).data(), &value, sizeof(value));
}

// The first 1 GiB onto itself, in pages of 2 MiB: the kernel makes its own tables early on.
void store_page_tables(std::span<std::byte> memory)
{
	constexpr u64 present_writable = 0x3;
	constexpr u64 large = 0x80;
	const u64 pml4 = layout::page_tables, pdpt = pml4 + page, directory = pdpt + page;
	store(memory, pml4, pdpt | present_writable);
	store(memory, pdpt, directory | present_writable);
	for (u64 i = 0; i < 512; i++)
		store(memory, directory + i * sizeof(u64), i << 21 | large | present_writable);
}

void store_gdt(std::span<std::byte> memory)
{
	constexpr u64 flat_code = 0x00af9b000000ffff; // 64-bit
	constexpr u64 flat_data = 0x00cf93000000ffff;
	store(memory, layout::gdt, std::array<u64, 4>{0, 0, flat_code, flat_data});
}

void add_range(boot_params &zero_page, u64 start, u64 end, u32 type)
{
	zero_page.e820_table[zero_page.e820_entries++] = {start, end - start, type};
}

// As high as the kernel can reach, so that it is out of the way.
u64 initrd_address(const BootRequest &request, u64 low)
{
	const u64 limit = std::min(low, u64{request.kernel.header().initrd_addr_max} + 1);
	const u64 size = request.initrd->size();
	const u64 floor = std::max(
		request.kernel.runtime_end(), layout::kernel + request.kernel.payload_size());
	if (size > limit || (limit - size) / page * page < floor)
		throw Refusal{"the initrd " + request.initrd->path() + " (" + in_mib(size) +
			      ") does not fit into " + in_mib(request.memory) +
			      " of memory beside the kernel"};
	return (limit - size) / page * page;
}

void load_kernel(std::span<std::byte> memory, const BootRequest &request)
{
	const u64 size = request.kernel.payload_size();
	const u64 end = std::max(layout::kernel + size, request.kernel.runtime_end());
	if (size > memory.size() || end > memory.size())
		throw Refusal{"the kernel needs " + in_mib(end) + " of memory; there are " +
			      in_mib(request.memory)};
	request.kernel.load(at(memory, layout::kernel, size));
}

void store_zero_page(std::span<std::byte> memory, const BootRequest &request, u64 initrd)
{
	boot_params zero_page{};
	zero_page.hdr = request.kernel.header();
	zero_page.hdr.type_of_loader = 0xff; // none that has a number
	zero_page.hdr.code32_start = layout::kernel;
	zero_page.hdr.cmd_line_ptr = layout::command_line;
	if (request.initrd) {
		zero_page.hdr.ramdisk_image = static_cast<u32>(initrd);
		zero_page.hdr.ramdisk_size = static_cast<u32>(request.initrd->size());
	}
	zero_page.acpi_rsdp_addr = layout::acpi;
	add_range(zero_page, 0, layout::low_memory_end, e820_ram);
	add_range(zero_page, layout::low_memory_end, layout::kernel, e820_reserved);
	add_range(zero_page, layout::kernel, memory.size(), e820_ram);
	if (const u64 high = request.memory - memory.size())
		add_range(zero_page, layout::high_memory, layout::high_memory + high, e820_ram);
	store(memory, layout::zero_page, zero_page);
}

void store_command_line(std::span<std::byte> memory, const BootRequest &request)
{
	const std::string &text = request.command_line;
	const u32 limit = request.kernel.header().cmdline_size;
	if (text.size() > limit)
		throw Refusal{"the kernel's command line has " + std::to_string(text.size()) +
			      " characters; this kernel takes " + std::to_string(limit)};
	if (text.size() >= layout::low_memory_end - layout::command_line)
		throw Refusal{"the kernel's command line is too long"};
	std::memcpy(at(memory, layout::command_line, text.size() + 1).data(), text.c_str(),
		text.size() + 1);
}

} // namespace

u64 low_memory(u64 memory)
{
	return std::min(memory, layout::device_hole);
}

void load(std::span<std::byte> memory, const BootRequest &request)
{
	load_kernel(memory, request);
	u64 initrd = 0;
	if (request.initrd) {
		initrd = initrd_address(request, memory.size());
		request.initrd->read(at(memory, initrd, request.initrd->size()), 0);
	}
	store_zero_page(memory, request, initrd);
	store_command_line(memory, request);
	store_page_tables(memory);
	store_gdt(memory);
	store_acpi_tables(at(memory, layout::acpi, layout::acpi_end - layout::acpi), request.cpus);
}

kvm_regs entry_regs()
{
	constexpr u64 entry_64 = 0x200; // behind the 32-bit entry
	kvm_regs regs{};
	regs.rip = layout::kernel + entry_64;
	regs.rsi = layout::zero_page;
	regs.rflags = X86_EFLAGS_FIXED;
	return regs;
}

kvm_sregs entry_sregs(kvm_sregs sregs)
{
	constexpr u64 long_mode = 1 << 8 | 1 << 10; // EFER.LME and LMA, SDM vol. 3, 2.2.1
	const auto flat = [](u16 selector, u8 type, bool is_64_bit) {
		kvm_segment segment{};
		segment.limit = 0xffffffff;
		segment.selector = selector;
		segment.type = type;
		segment.present = segment.s = segment.g = 1;
		segment.l = is_64_bit;
		segment.db = !is_64_bit;
		return segment;
	};
	sregs.cs = flat(code_selector, 0xb, true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(data_selector, 0x3, false);
	sregs.gdt.base = layout::gdt;
	sregs.gdt.limit = 4 * sizeof(u64) - 1;
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
	sregs.cr3 = layout::page_tables;
	sregs.cr4 = X86_CR4_PAE;
	sregs.efer = long_mode;
	return sregs;
}

} // namespace kvmpp::command
