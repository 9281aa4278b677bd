// SPDX-License-Identifier: GPL-2.0-only
#include "sim/vtx/guest.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include "mmu/entry.h"
#include "sim/clock.h"
#include "sim/host.h"
#include "sim/user/memory.h"
#include "sim/vtx/virtual_apic.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::sim
{

using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;

GuestExit Guest::cpuid(u32 leaf, u32 subleaf)
{
	gprs[Gpr::rax] = leaf;
	gprs[Gpr::rcx] = subleaf;
	return GuestExit::of(ExitReason::cpuid, 0, 2);
}

// SDM vol. 3, table 28-5; the short form of the instruction.
GuestExit Guest::in(u16 port, unsigned size)
{
	return GuestExit::of(ExitReason::io_instruction, (size - 1) | 1 << 3 | u64{port} << 16, 1);
}

GuestExit Guest::out(u16 port, unsigned size, u32 value)
{
	gprs[Gpr::rax] = value;
	return GuestExit::of(ExitReason::io_instruction, (size - 1) | u64{port} << 16, 1);
}

// SDM vol. 3, 25.6.9.
bool Guest::msr_exits(u32 index, bool write) const
{
	constexpr u32 range = 0x2000, high = 0xc0000000;
	if (index >= range && index - high >= range)
		return true;
	const auto *bitmap = reinterpret_cast<const u8 *>(get(field::msr_bitmap).value);
	const u32 bit = (write ? 2048 * 8 : 0) + (index < range ? index : 1024 * 8 + index - high);
	return bitmap[bit / 8] >> bit % 8 & 1;
}

// SDM vol. 3, 30.5.
std::optional<GuestExit> Guest::write_x2apic(u32 index, u32 value)
{
	using x86::ApicRegister;
	if (msr_exits(index, true))
		return wrmsr(index, value);
	vtx::VirtualApic apic{vmcs_};
	if (!apic.has_x2apic() || !apic.delivers())
		die("the guest writes the host's MSR %#x", index);
	switch (static_cast<ApicRegister>((index & 0xff) * 16)) {
	case ApicRegister::tpr:
		apic.write(ApicRegister::tpr, value);
		apic.virtualize_ppr();
		return {};
	case ApicRegister::eoi: {
		const auto ended = apic.end();
		if (!ended.exits)
			return {};
		return GuestExit::of(ExitReason::eoi_induced, ended.vector);
	}
	case ApicRegister::self_ipi:
		apic.write(ApicRegister::self_ipi, value);
		if (value < 16)
			return GuestExit::of(ExitReason::apic_write, static_cast<u32>(ApicRegister::self_ipi));
		apic.request(static_cast<u8>(value));
		return {};
	default: die("the guest writes the host's MSR %#x", index);
	}
}

u32 Guest::read_x2apic(u32 index)
{
	vtx::VirtualApic apic{vmcs_};
	if (msr_exits(index, false) || !apic.has_x2apic())
		die("MSR %#x is not read from the virtual-APIC page", index);
	return apic.read(static_cast<x86::ApicRegister>((index & 0xff) * 16));
}

std::optional<GuestExit> Guest::write_cr8(u8 value)
{
	constexpr u64 mov_to_cr8 = 8;
	vtx::VirtualApic apic{vmcs_};
	const u32 controls = get(field::primary_controls);
	if (controls & vmx::primary::cr8_load_exiting) {
		gprs[Gpr::rax] = value;
		return GuestExit::of(ExitReason::cr_access, mov_to_cr8, 4);
	}
	if (!(controls & vmx::primary::tpr_shadow))
		die("the guest writes the host's CR8");
	apic.write(x86::ApicRegister::tpr, value << 4);
	return task_priority_written();
}

// SDM vol. 3, 30.1.2.
std::optional<GuestExit> Guest::task_priority_written()
{
	vtx::VirtualApic apic{vmcs_};
	if (apic.delivers())
		apic.virtualize_ppr();
	else if (apic.below_threshold())
		return GuestExit::of(ExitReason::tpr_below_threshold);
	return {};
}

std::optional<GuestExit> Guest::apic_written(u32 offset)
{
	using x86::ApicRegister;
	vtx::VirtualApic apic{vmcs_};
	// EOI's value is lost, and of the command's destination only the byte that there is stays.
	const auto exit = GuestExit::of(ExitReason::apic_write, offset);
	const auto name = static_cast<ApicRegister>(offset);
	switch ((offset & ~3u) == static_cast<u32>(ApicRegister::icr_high) ? ApicRegister::icr_high : name) {
	case ApicRegister::tpr:
		apic.write(ApicRegister::tpr, apic.read(ApicRegister::tpr) & 0xff);
		return task_priority_written();
	case ApicRegister::eoi: {
		if (!apic.delivers())
			return exit;
		apic.write(ApicRegister::eoi, 0);
		const auto ended = apic.end();
		return ended.exits ? std::optional{GuestExit::of(ExitReason::eoi_induced, ended.vector)} : std::nullopt;
	}
	case ApicRegister::icr: {
		constexpr u32 reserved = 0xfff33000, shorthand = 3 << 18, self = 1 << 18, level_and_mode = 0x8700;
		const u32 command = apic.read(ApicRegister::icr);
		if (!apic.delivers() || command & (reserved | level_and_mode) || (command & shorthand) != self ||
			(command & 0xff) < 16)
			return exit;
		apic.request(static_cast<u8>(command));
		return {};
	}
	case ApicRegister::icr_high:
		apic.write(ApicRegister::icr_high, apic.read(ApicRegister::icr_high) & 0xff000000);
		return {};
	default: return exit;
	}
}

GuestExit Guest::rdmsr(u32 index)
{
	gprs[Gpr::rcx] = index;
	return GuestExit::of(ExitReason::msr_read, 0, 2);
}

GuestExit Guest::wrmsr(u32 index, u64 value)
{
	gprs[Gpr::rcx] = index;
	gprs[Gpr::rax] = static_cast<u32>(value);
	gprs[Gpr::rdx] = value >> 32;
	return GuestExit::of(ExitReason::msr_write, 0, 2);
}

GuestExit Guest::vmcall(u64 number)
{
	gprs[Gpr::rax] = number;
	return GuestExit::of(ExitReason::vmcall, 0, 3);
}

GuestExit Guest::spin()
{
	if (!cpu.wait_for_interrupt())
		die("a guest runs and nobody interrupts it");
	return GuestExit::of(ExitReason::external_interrupt);
}

// SDM vol. 3, 25.5.1.
GuestExit Guest::spin_until_timer()
{
	if (!(get(field::pin_controls) & vmx::pin::preemption_timer))
		die("a guest waits for a timer that is off");
	const unsigned shift = cpu.msrs.at(x86::msr::vmx_misc) & 0x1f;
	const u64 ticks = u64{get(field::preemption_timer)} << shift;
	clock().advance(ticks * 1'000'000 / Clock::tsc_khz);
	return GuestExit::of(ExitReason::preemption_timer);
}

// A dirty flag is about to be set. SDM vol. 3, 29.3.6.
std::optional<GuestExit> Guest::log_page(u64 address)
{
	constexpr u16 last = 511;
	if (!(get(field::secondary_controls) & vmx::secondary::pml))
		return {};
	const u16 index = get(field::page_log_index);
	if (index > last)
		return GuestExit::of(ExitReason::pml_full);
	reinterpret_cast<u64 *>(get(field::page_log).value)[index] = address & ~u64{page_size - 1};
	set(field::page_log_index, index - 1);
	return {};
}

// SDM vol. 3, 29.3.2 and table 28-7.
std::optional<GuestExit> Guest::translate(u64 address, bool write, u64 &host)
{
	const u64 pointer = get(field::ept_pointer);
	const bool marks = pointer & bit(6);
	u64 table = pointer & bits(51, 12), rights = 7;
	mmu::Level level = mmu::Level::root;
	const auto violation = [&] {
		GuestExit exit = GuestExit::of(ExitReason::ept_violation,
			(write ? 2 : 1) | rights << 3 | 1 << 7 | 1 << 8);
		exit.guest_physical = address;
		return exit;
	};
	for (;; level = mmu::below(level)) {
		u64 *place = reinterpret_cast<u64 *>(table) + mmu::index_of(Gfn{address >> page_shift}, level);
		const mmu::Entry entry{__atomic_load_n(place, __ATOMIC_ACQUIRE)};
		rights &= entry.raw & 7;
		if (!entry.present() || (write && !entry.writable())) {
			return violation();
		}
		const bool leaf = entry.is_leaf(level);
		if (!leaf && entry.raw & bits(7, 3))
			die("a reserved bit of an EPT entry is set: %#llx", entry.raw);
		// One that is dirty already is not written again, whatever becomes of it meanwhile.
		const bool dirties = leaf && write && !(entry.raw & mmu::Entry::dirty_bit);
		if (marks && dirties)
			if (const auto exit = log_page(address))
				return exit;
		if (marks)
			__atomic_fetch_or(place, mmu::Entry::accessed_bit | (dirties ? mmu::Entry::dirty_bit : 0),
				__ATOMIC_ACQ_REL);
		if (!leaf) {
			table = entry.address().value;
			continue;
		}
		const u64 size = bit(mmu::shift_of(level));
		host = (entry.address().value & ~(size - 1)) | (address & (size - 1));
		return {};
	}
}

template <class Copy>
std::optional<GuestExit> Guest::access(u64 address, usize size, bool write, Copy &&copy)
{
	for (usize done = 0; done < size;) {
		u64 host;
		if (const auto exit = translate(address + done, write, host))
			return exit;
		const u32 offset = host & (page_size - 1);
		const usize bytes = std::min<usize>(size - done, page_size - offset);
		const vtx::VirtualApic apic{vmcs_};
		if (apic.is_access_page(host)) {
			if (!apic.virtualizes(offset, bytes, write))
				return GuestExit::of(ExitReason::apic_access, offset | (write ? 1 << 12 : 0));
			copy(apic.at(offset), done, bytes);
			return write ? apic_written(offset) : std::nullopt;
		}
		check_guest_access(host, write);
		copy(reinterpret_cast<u8 *>(host), done, bytes);
		done += bytes;
	}
	return {};
}

std::optional<GuestExit> Guest::read(u64 address, void *data, usize size)
{
	return access(address, size, false, [data](const u8 *host, usize offset, usize bytes) {
		std::memcpy(static_cast<u8 *>(data) + offset, host, bytes);
	});
}

std::optional<GuestExit> Guest::write(u64 address, const void *data, usize size)
{
	return access(address, size, true, [data](u8 *host, usize offset, usize bytes) {
		std::memcpy(host, static_cast<const u8 *>(data) + offset, bytes);
	});
}

GuestProgram in_turn(std::vector<GuestProgram> steps)
{
	auto next = std::make_shared<usize>(0);
	return [steps = std::move(steps), next](Guest &guest) {
		const usize i = std::min(*next, steps.size() - 1);
		++*next;
		return steps[i](guest);
	};
}

} // namespace kvmpp::sim
