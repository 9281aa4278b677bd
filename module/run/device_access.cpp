// SPDX-License-Identifier: GPL-2.0-only
#include "run/device_access.h"

#include <algorithm>
#include <bit>
#include "host/trace.h"
#include "machine/vm.h"
#include "run/apic_effects.h"
#include "run/emulation.h"

namespace kvmpp::run
{
namespace
{

using machine::IoFragment;
using machine::IoState;

constexpr u32 tpr_offset = static_cast<u32>(x86::ApicRegister::tpr);

// The largest naturally aligned piece, as a processor would split the access on its bus.
u8 piece_size(Gpa address, unsigned left)
{
	for (unsigned size = 8; size > 1; size /= 2)
		if (left >= size && address.aligned(size))
			return static_cast<u8>(size);
	return 1;
}

void exit_for_mmio(machine::Vcpu &vcpu, const IoFragment &fragment, bool write)
{
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_MMIO;
	run.mmio.phys_addr = fragment.address.value;
	run.mmio.len = fragment.size;
	run.mmio.is_write = write;
	std::copy(fragment.data.begin(), fragment.data.end(), run.mmio.data);
}

} // namespace

DeviceAccess::ApicPage DeviceAccess::apic_page(Gpa address) const
{
	if (!vcpu_.lapic || address.page().value != (vcpu_.lapic->base() & bits(51, page_shift)))
		return ApicPage::elsewhere;
	if (vcpu_.lapic->xapic_enabled())
		return ApicPage::registers;
	// Off, or used by MSRs: nothing answers, and the VMM is not asked.
	return vcpu_.vm.options().has_quirk(KVM_X86_QUIRK_LAPIC_MMIO_HOLE) ? ApicPage::hole
									   : ApicPage::elsewhere;
}

bool DeviceAccess::read_here(IoFragment &fragment)
{
	const ApicPage page = apic_page(fragment.address);
	if (page == ApicPage::registers) {
		if (fragment.address.offset() == tpr_offset)
			tpr_access_ = TprAccess::read;
		const u64 value =
			vcpu_.lapic->read_mmio(static_cast<u32>(fragment.address.offset()), fragment.size);
		__builtin_memcpy(fragment.data.data(), &value, sizeof(value));
		return true;
	}
	if (page == ApicPage::hole) {
		fragment.data.fill(0xff);
		return true;
	}
	machine::ReadSection section{vcpu_.reader};
	return vcpu_.vm.mmio.read(section, fragment.address.value, {fragment.data.data(), fragment.size});
}

bool DeviceAccess::write_here(const IoFragment &fragment)
{
	const ApicPage page = apic_page(fragment.address);
	if (page == ApicPage::hole)
		return true;
	if (page == ApicPage::registers) {
		if (fragment.address.offset() == tpr_offset)
			tpr_access_ = TprAccess::write;
		u64 value;
		__builtin_memcpy(&value, fragment.data.data(), sizeof(value));
		apply_apic_effect(vcpu_,
			vcpu_.lapic->write_mmio(
				static_cast<u32>(fragment.address.offset()), fragment.size, value));
		return true;
	}
	machine::ReadSection section{vcpu_.reader};
	return vcpu_.vm.mmio.write(section, fragment.address.value, {fragment.data.data(), fragment.size});
}

DeviceAccess::Served DeviceAccess::read(Gpa address, void *data, unsigned size)
{
	IoState &io = vcpu_.io;
	for (unsigned done = 0; done < size;) {
		const u8 bytes = piece_size(address + done, size - done);
		if (io.taken == io.answered.size()) {
			if (io.answered.full())
				return Served::full;
			IoFragment fragment{.address = address + done, .size = bytes};
			// Remembered even if the module itself answers: the instruction may run again
			// for another piece, and a device must not be read twice.
			const bool here = read_here(fragment);
			// What the VMM is to answer is traced with its answer.
			if (here)
				KVMPP_TRACE(mmio, vcpu_.id, false, fragment.address.value, bytes,
					std::bit_cast<u64>(fragment.data));
			io.answered.push(fragment);
			if (!here) {
				io.waiting = IoState::Waiting::read;
				exit_for_mmio(vcpu_, fragment, false);
				return Served::ask_vmm;
			}
		}
		__builtin_memcpy(static_cast<u8 *>(data) + done, io.answered[io.taken++].data.data(), bytes);
		done += bytes;
	}
	return Served::yes;
}

bool DeviceAccess::recall(Gpa address, void *data, unsigned size)
{
	IoState &io = vcpu_.io;
	for (unsigned done = 0; done < size;) {
		const u8 bytes = piece_size(address + done, size - done);
		unsigned i = 0;
		while (i < io.taken && io.answered[i].address != address + done)
			++i;
		if (i == io.taken)
			return false;
		__builtin_memcpy(static_cast<u8 *>(data) + done, io.answered[i].data.data(), bytes);
		done += bytes;
	}
	return true;
}

DeviceAccess::Served DeviceAccess::write(Gpa address, const void *data, unsigned size)
{
	IoState &io = vcpu_.io;
	unsigned pieces = 0;
	for (unsigned done = 0; done < size; done += piece_size(address + done, size - done))
		++pieces;
	if (io.writes.size() + pieces > io.writes.capacity)
		return Served::full;

	for (unsigned done = 0; done < size;) {
		IoFragment fragment{.address = address + done, .size = piece_size(address + done, size - done)};
		__builtin_memcpy(fragment.data.data(), static_cast<const u8 *>(data) + done, fragment.size);
		KVMPP_TRACE(mmio, vcpu_.id, true, fragment.address.value, fragment.size,
			std::bit_cast<u64>(fragment.data));
		if (!write_here(fragment))
			io.writes.push(fragment);
		done += fragment.size;
	}
	return Served::yes;
}

Result<After> exit_for_writes(Vcpu &vcpu)
{
	IoState &io = vcpu.io;
	if (io.writes.empty())
		return After::reenter;
	io.waiting = IoState::Waiting::written;
	exit_for_mmio(vcpu, io.writes.front(), true);
	return After::exit_to_user;
}

} // namespace kvmpp::run
