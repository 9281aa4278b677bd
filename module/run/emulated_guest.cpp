// SPDX-License-Identifier: GPL-2.0-only
#include "run/emulated_guest.h"

#include <algorithm>
#include "host/trace.h"
#include "machine/vm.h"
#include "run/control_registers.h"
#include "run/hypercall.h"
#include "run/msrs.h"
#include "run/ports.h"
#include "run/smm.h"

namespace kvmpp::run
{

using machine::IoState;
using machine::Request;
using x86::Exception;
using x86::emulator::Stop;

// --- registers ---------------------------------------------------------------------------------

std::unexpected<Stop> EmulatedGuest::stop(const Exception &exception)
{
	raise(exception);
	return std::unexpected{Stop::exception};
}

std::unexpected<Stop> EmulatedGuest::host_failed(Errno error)
{
	host_error_ = error;
	return std::unexpected{Stop::pending};
}

void EmulatedGuest::set_segment(x86::SegmentName name, const x86::Segment &segment)
{
	vcpu_.state.set_segment(name, segment);
}

u64 EmulatedGuest::control(unsigned number)
{
	switch (number) {
	case 0: return vcpu_.state.cr0(vmcs_);
	case 2: return vcpu_.cr2;
	case 3: return vcpu_.state.cr3(vmcs_);
	case 4: return vcpu_.state.cr4(vmcs_);
	default: return vcpu_.cr8();
	}
}

x86::emulator::Outcome<> EmulatedGuest::set_control(unsigned number, u64 value)
{
	bool valid = true;
	switch (number) {
	case 0: valid = write_cr0(vcpu_, vmcs_, value); break;
	case 2: vcpu_.cr2 = value; break;
	case 3: valid = write_cr3(vcpu_, vmcs_, value); break;
	case 4: valid = write_cr4(vcpu_, vmcs_, value); break;
	default: valid = write_cr8(vcpu_, value); break;
	}
	if (!valid)
		return stop(Exception::gp());
	paging_ = vcpu_.paging(vmcs_);
	return {};
}

u64 EmulatedGuest::debug(unsigned number)
{
	// #UD and general detect are the emulator's to raise.
	return read_dr(vcpu_, vmcs_, number).value_or(0);
}

x86::emulator::Outcome<> EmulatedGuest::set_debug(unsigned number, u64 value)
{
	if (const auto done = write_dr(vcpu_, vmcs_, number, value); !done)
		return stop(done.error());
	return {};
}

x86::emulator::Outcome<u64> EmulatedGuest::read_msr(u32 index)
{
	if (!vcpu_.vm.allows_msr(vcpu_, index, KVM_MSR_FILTER_READ))
		return stop(Exception::gp());
	const auto value = run::read_msr(vcpu_, vmcs_, index, By::guest);
	if (!value)
		return stop(Exception::gp());
	return *value;
}

x86::emulator::Outcome<> EmulatedGuest::write_msr(u32 index, u64 value)
{
	if (!vcpu_.vm.allows_msr(vcpu_, index, KVM_MSR_FILTER_WRITE))
		return stop(Exception::gp());
	if (!run::write_msr(vcpu_, vmcs_, index, value, By::guest))
		return stop(Exception::gp());
	return {};
}

x86::emulator::Outcome<u64> EmulatedGuest::read_pmc(u32)
{
	return stop(Exception::gp());
}

void EmulatedGuest::cpuid(u32 leaf, u32 subleaf, u32 (&registers)[4])
{
	const auto result = vcpu_.cpuid.query(leaf, subleaf);
	registers[0] = result.eax;
	registers[1] = result.ebx;
	registers[2] = result.ecx;
	registers[3] = result.edx;
}

x86::emulator::Outcome<> EmulatedGuest::set_xcr(u32 index, u64 value)
{
	if (index != 0 || !x86::xcr0_valid(value, vcpu_.cpuid.xcr0_allowed()))
		return stop(Exception::gp());
	vcpu_.set_xcr0(value);
	return {};
}

void EmulatedGuest::read_vector(unsigned number, void *value, unsigned size)
{
	kvmpp_fpu_read_vector(number, value, size);
}

void EmulatedGuest::write_vector(unsigned number, const void *value, unsigned size, bool clear_above)
{
	kvmpp_fpu_write_vector(number, value, size, clear_above);
}

void EmulatedGuest::read_mmx(unsigned number, u64 &value)
{
	kvmpp_fpu_read_mmx(number, &value);
}

void EmulatedGuest::write_mmx(unsigned number, u64 value)
{
	kvmpp_fpu_write_mmx(number, value);
}

x86::emulator::Outcome<> EmulatedGuest::fxrstor(const void *image)
{
	if (kvmpp_fpu_fxrstor(image))
		return stop(Exception::gp());
	return {};
}

void EmulatedGuest::block_interrupts(bool by_mov_ss)
{
	blocking_ = by_mov_ss ? vmx::blocking::mov_ss : vmx::blocking::sti;
}

bool EmulatedGuest::resume(x86::emulator::Registers &registers)
{
	if (!vcpu_.smm.active)
		return false;
	const auto resumed = leave_smm(vcpu_, vmcs_);
	if (!resumed) {
		vcpu_.events.triple_fault = true;
		return true;
	}
	registers.gpr = resumed->gprs;
	registers.rip = resumed->rip;
	registers.rflags = resumed->rflags;
	unblocks_nmis_ = resumed->unblocks_nmis;
	if (resumed->shadow)
		blocking_ = resumed->shadow;
	halted_ = resumed->halts;
	paging_ = vcpu_.paging(vmcs_);
	return true;
}

x86::emulator::Outcome<> EmulatedGuest::hypercall()
{
	run::hypercall(vcpu_, vmcs_);
	return {};
}

bool EmulatedGuest::next_iteration()
{
	vcpu_.io.forget_answers();
	// Who waits for the VMM, or for this CPU, is served between two iterations.
	return vcpu_.io.writes.empty() && !port_output_ && !kvmpp_work_pending() &&
	       !vcpu_.mailbox.requested() && !vcpu_.dirty_ring.soft_full();
}

// --- memory --------------------------------------------------------------------------------------

x86::emulator::Outcome<Gpa> EmulatedGuest::translate(Gva address, Access access)
{
	const bool implicit = access == Access::implicit_read || access == Access::implicit_write;
	const x86::PageAccess wanted{
		.write = access == Access::write || access == Access::read_for_write ||
			 access == Access::implicit_write,
		.fetch = access == Access::fetch,
		.user = !implicit && cpl() == 3,
		.smap_lifted = !implicit && (vcpu_.state.rflags(vmcs_) & X86_EFLAGS_AC) != 0};
	const auto translation = x86::translate(vcpu_.memory, paging_, address, wanted);
	if (!translation)
		return stop(translation.error());
	return translation->address;
}

x86::emulator::Outcome<EmulatedGuest::Pieces> EmulatedGuest::locate(Gva address, unsigned size,
	Access access)
{
	Pieces pieces;
	for (unsigned offset = 0; offset < size;) {
		const Gva place = address + offset;
		const unsigned bytes = std::min<u64>(size - offset, page_size - place.offset());
		pieces.piece[pieces.count++] = {TRY(translate(place, access)), offset, bytes};
		offset += bytes;
	}
	return pieces;
}

x86::emulator::Outcome<> EmulatedGuest::read(Gva address, void *data, unsigned size, Access access)
{
	const Pieces pieces = TRY(locate(address, size, access));
	for (unsigned i = 0; i < pieces.count; ++i) {
		const auto &piece = pieces.piece[i];
		u8 *to = static_cast<u8 *>(data) + piece.offset;
		if (vcpu_.memory.is_ram(piece.address)) {
			if (!vcpu_.memory.read(piece.address, to, piece.size))
				return host_failed(Errno{EFAULT});
			continue;
		}
		switch (devices_.read(piece.address, to, piece.size)) {
		case DeviceAccess::Served::yes: break;
		case DeviceAccess::Served::ask_vmm: return std::unexpected{Stop::pending};
		case DeviceAccess::Served::full: return std::unexpected{Stop::unknown};
		}
	}
	return {};
}

x86::emulator::Outcome<> EmulatedGuest::write(Gva address, const void *data, unsigned size, Access access)
{
	const Pieces pieces = TRY(locate(address, size, access));
	for (unsigned i = 0; i < pieces.count; ++i) {
		const auto &piece = pieces.piece[i];
		const u8 *from = static_cast<const u8 *>(data) + piece.offset;
		if (vcpu_.memory.is_writable(piece.address)) {
			if (!vcpu_.memory.write(piece.address, from, piece.size))
				return host_failed(Errno{EFAULT});
			continue;
		}
		if (devices_.write(piece.address, from, piece.size) == DeviceAccess::Served::full)
			return std::unexpected{Stop::unknown};
	}
	return {};
}

x86::emulator::Outcome<bool> EmulatedGuest::compare_exchange(Gva address, void *expected,
	const void *desired, unsigned size, Access access)
{
	const Pieces pieces = TRY(locate(address, size, access));
	const Gpa place = pieces.piece[0].address;
	const bool whole = pieces.count == 1 && size <= 8 && place.aligned(size);
	if (whole && vcpu_.memory.is_writable(place)) {
		u64 old = 0, fresh = 0;
		__builtin_memcpy(&old, expected, size);
		__builtin_memcpy(&fresh, desired, size);
		const auto replaced = vcpu_.memory.compare_exchange(place, size, old, fresh);
		if (replaced == x86::Replaced::not_writable)
			return host_failed(Errno{EFAULT});
		__builtin_memcpy(expected, &old, size);
		return replaced == x86::Replaced::yes;
	}

	// What no single instruction of ours reaches: a device, or operands that the bus would have
	// been locked for. A device is read once, which a read-modify-write has done already.
	u8 found[16];
	if (pieces.count > 1 || !devices_.recall(place, found, size))
		TRY(read(address, found, size, access));
	if (__builtin_memcmp(found, expected, size) != 0) {
		__builtin_memcpy(expected, found, size);
		return false;
	}
	TRY(write(address, desired, size, access));
	return true;
}

x86::emulator::Outcome<> EmulatedGuest::probe(Gva address, unsigned size, Access access)
{
	TRY(locate(address, size, access));
	return {};
}

x86::emulator::Outcome<unsigned> EmulatedGuest::fetch(Gva address, u8 *bytes, unsigned size)
{
	unsigned count = 0;
	while (count < size) {
		const Gva place = address + count;
		const unsigned left = std::min<u64>(size - count, page_size - place.offset());
		// A fault beyond the first byte concerns the instruction only if it is that long.
		if (count > 0 && !x86::translate(vcpu_.memory, paging_, place,
					 {.fetch = true, .user = cpl() == 3}))
			return count;
		const Gpa from = TRY(translate(place, Access::fetch));
		if (!vcpu_.memory.read(from, bytes + count, left)) {
			if (count > 0)
				return count;
			// Code in a device: nothing that could be executed.
			return std::unexpected{Stop::unknown};
		}
		count += left;
	}
	return count;
}

void EmulatedGuest::invalidate_page(Gva)
{
	vcpu_.mailbox.request(Request::flush_linear);
}

// --- ports -----------------------------------------------------------------------------------------

// Of a string the first element's value stands for all.
void EmulatedGuest::trace_port(bool write, u16 port, unsigned size, u32 count, const void *data) const
{
	if (!host::tracing()) [[likely]]
		return;
	u32 value = 0;
	__builtin_memcpy(&value, data, size);
	kvmpp_note_port(vcpu_.id, write, port, static_cast<u8>(size), count, value);
}

x86::emulator::Outcome<unsigned> EmulatedGuest::port_read(u16 port, unsigned size, void *data,
	unsigned count)
{
	IoState &io = vcpu_.io;
	if (io.port_string_answered) {
		// The VMM has answered io.count elements; the instruction may ask for fewer now.
		const unsigned elements = std::min(count, io.count);
		__builtin_memcpy(data, vcpu_.port_data(), elements * size);
		io.port_string_answered = false;
		trace_port(false, port, size, elements, data);
		return elements;
	}
	{
		machine::ReadSection section{vcpu_.reader};
		if (vcpu_.vm.ports.read(section, port, {static_cast<u8 *>(data), size})) {
			trace_port(false, port, size, 1, data);
			return 1;
		}
	}
	const u32 elements = std::min<u32>(count, page_size / size);
	exit_for_port(vcpu_, true, port, static_cast<u8>(size), elements);
	io.count = elements;
	io.waiting = IoState::Waiting::port_string;
	return std::unexpected{Stop::pending};
}

x86::emulator::Outcome<unsigned> EmulatedGuest::port_write(u16 port, unsigned size, const void *data,
	unsigned count)
{
	{
		machine::ReadSection section{vcpu_.reader};
		if (vcpu_.vm.ports.write(section, port, {static_cast<const u8 *>(data), size})) {
			trace_port(true, port, size, 1, data);
			return 1;
		}
	}
	const u32 elements = std::min<u32>(count, page_size / size);
	__builtin_memcpy(vcpu_.port_data(), data, elements * size);
	exit_for_port(vcpu_, false, port, static_cast<u8>(size), elements);
	trace_port(true, port, size, elements, data);
	port_output_ = true;
	return elements;
}

} // namespace kvmpp::run
