// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/made_up_guest.h"

#include <algorithm>
#include <cstdlib>

namespace kvmpp::x86::emulator::test
{

namespace
{

bool writes(Access access)
{
	return access == Access::write || access == Access::read_for_write ||
	       access == Access::implicit_write;
}

bool implicit(Access access)
{
	return access == Access::implicit_read || access == Access::implicit_write;
}

} // namespace

// --- running -----------------------------------------------------------------------------------

Outcome<> MadeUpGuest::step()
{
	Registers registers{gpr, rip, rflags};
	answers_taken_ = 0;
	const Outcome<> outcome = execute(*this, registers, executed);
	rip = registers.rip;
	rflags = registers.rflags;
	if (outcome || outcome.error() != Stop::pending) {
		answers_ = answers_taken_ = 0;
		answers_begin_ = static_cast<unsigned>(device_reads.size());
		port_answered_ = false;
	}
	return outcome;
}

void MadeUpGuest::forget()
{
	raised.clear();
	device_reads.clear();
	device_writes.clear();
	port_reads.clear();
	port_writes.clear();
	invalidated.clear();
	blocked_by_mov_ss.reset();
	halts = cache_writes = nmi_unblocks = hypercalls = iterations = bytes_fetched = 0;
	answers_ = answers_taken_ = answers_begin_ = 0;
	port_answered_ = false;
}

Outcome<> MadeUpGuest::run(std::initializer_list<u8> code)
{
	const u64 base = current_mode == Mode::long64 ? 0 : segment(SegmentName::cs).base;
	poke(base + rip, std::span{code.begin(), code.size()});
	return step();
}

Outcome<> MadeUpGuest::deliver_event(const Event &event)
{
	Registers registers{gpr, rip, rflags};
	const Outcome<> outcome = deliver(*this, registers, event);
	rip = registers.rip;
	rflags = registers.rflags;
	return outcome;
}

// --- registers ---------------------------------------------------------------------------------

void MadeUpGuest::set_segment(SegmentName name, const Segment &segment)
{
	segments[static_cast<u8>(name)] = segment;
	if (name == SegmentName::ss)
		current_cpl = current_mode == Mode::real ? 0 : segment.rights.dpl();
}

std::unexpected<Stop> MadeUpGuest::stop(const Exception &exception)
{
	raise(exception);
	return std::unexpected{Stop::exception};
}

Outcome<> MadeUpGuest::set_control(unsigned number, u64 value)
{
	if (number == 0 && value & X86_CR0_PG && !(value & X86_CR0_PE))
		return stop(Exception::gp());
	cr[number] = value;
	return {};
}

Outcome<> MadeUpGuest::set_debug(unsigned number, u64 value)
{
	dr[number] = value;
	return {};
}

Outcome<u64> MadeUpGuest::read_msr(u32 index)
{
	const auto found = msrs.find(index);
	if (found == msrs.end())
		return stop(Exception::gp());
	return found->second;
}

Outcome<> MadeUpGuest::write_msr(u32 index, u64 value)
{
	const auto found = msrs.find(index);
	if (found == msrs.end())
		return stop(Exception::gp());
	found->second = value;
	return {};
}

void MadeUpGuest::cpuid(u32 leaf, u32 subleaf, u32 (&registers)[4])
{
	const auto found = cpuid_leaves.find(leaf);
	for (unsigned i = 0; i < 4; ++i)
		registers[i] = found == cpuid_leaves.end() ? ~subleaf : found->second[i];
}

Outcome<> MadeUpGuest::set_xcr(u32 index, u64 value)
{
	if (index != 0 || !(value & 1))
		return stop(Exception::gp());
	xcr0_value = value;
	return {};
}

void MadeUpGuest::read_vector(unsigned number, void *value, unsigned size)
{
	u8 whole[32];
	__builtin_memcpy(whole, extended.xmm[number], 16);
	__builtin_memcpy(whole + 16, upper[number], 16);
	__builtin_memcpy(value, whole, size);
}

void MadeUpGuest::write_vector(unsigned number, const void *value, unsigned size, bool clear_above)
{
	u8 whole[32] = {};
	if (!clear_above)
		read_vector(number, whole, 32);
	__builtin_memcpy(whole, value, size);
	__builtin_memcpy(extended.xmm[number], whole, 16);
	__builtin_memcpy(upper[number], whole + 16, 16);
}

// SDM vol. 1, 9.5: every register is valid and the stack's top is 0; the image is in the order of
// the stack.
static void enter_mmx(ExtendedState &state)
{
	const unsigned top = state.status >> 11 & 7;
	const ExtendedState old = state;
	for (unsigned i = 0; i < 8; ++i)
		__builtin_memcpy(state.st[(i + top) & 7], old.st[i], 16);
	state.tags = 0xff;
	state.status &= static_cast<u16>(~0x3800);
}

void MadeUpGuest::read_mmx(unsigned number, u64 &value)
{
	enter_mmx(extended);
	__builtin_memcpy(&value, extended.st[number], 8);
}

void MadeUpGuest::write_mmx(unsigned number, u64 value)
{
	enter_mmx(extended);
	__builtin_memcpy(extended.st[number], &value, 8);
	extended.st[number][8] = extended.st[number][9] = 0xff;
}

Outcome<> MadeUpGuest::fxrstor(const void *image)
{
	ExtendedState state;
	__builtin_memcpy(&state, image, sizeof(state));
	if (state.mxcsr & ~extended.mxcsr_mask)
		return stop(Exception::gp());
	state.mxcsr_mask = extended.mxcsr_mask;
	// What the processor does not keep, and what it derives.
	state.control = static_cast<u16>((state.control & 0x1f3f) | 0x40);
	const bool pending = state.status & ~state.control & 0x3f;
	state.status = static_cast<u16>((state.status & ~0x8080) | (pending ? 0x8080 : 0));
	for (auto &st : state.st)
		__builtin_memset(st + 10, 0, 6);
	extended = state;
	return {};
}

Outcome<> MadeUpGuest::hypercall()
{
	++hypercalls;
	gpr[Gpr::rax] = 0x77;
	return {};
}

bool MadeUpGuest::resume(Registers &registers)
{
	if (!before_smm)
		return false;
	registers.gpr = before_smm->gpr;
	registers.rip = before_smm->rip;
	registers.rflags = before_smm->rflags;
	return true;
}

bool MadeUpGuest::next_iteration()
{
	answers_ = answers_taken_ = 0;
	answers_begin_ = static_cast<unsigned>(device_reads.size());
	port_answered_ = false;
	return ++iterations < iterations_allowed;
}

// --- memory ------------------------------------------------------------------------------------

Region &MadeUpGuest::add_ram(u64 base, u64 size)
{
	storage_.emplace_back(size);
	regions.push_back({.base = base, .size = size, .bytes = storage_.back().data()});
	return regions.back();
}

Region &MadeUpGuest::add_device(u64 base, u64 size)
{
	regions.push_back({.base = base, .size = size});
	return regions.back();
}

const Region *MadeUpGuest::find(u64 address) const
{
	for (const Region &region : regions)
		if (address - region.base < region.size)
			return &region;
	return nullptr;
}

u64 MadeUpGuest::peek(u64 address, unsigned size) const
{
	u64 value = 0;
	for (unsigned i = 0; i < size; ++i) {
		const Region *region = find(address + i);
		if (!region || !region->bytes)
			abort();
		value |= u64{region->bytes[address + i - region->base]} << 8 * i;
	}
	return value;
}

void MadeUpGuest::poke(u64 address, u64 value, unsigned size)
{
	poke(address, std::span{reinterpret_cast<const u8 *>(&value), size});
}

void MadeUpGuest::poke(u64 address, std::span<const u8> bytes)
{
	for (usize i = 0; i < bytes.size(); ++i) {
		const Region *region = find(address + i);
		if (!region || !region->bytes)
			abort();
		region->bytes[address + i - region->base] = bytes[i];
	}
}

Outcome<const Region *> MadeUpGuest::translate(u64 address, Access access)
{
	const Region *region = find(address);
	const bool write = writes(access), user = !implicit(access) && current_cpl == 3,
		   fetch = access == Access::fetch;
	const bool allowed = region &&
			     (!write || region->write || (!user && !(cr[0] & X86_CR0_WP))) &&
			     (!user || region->user) && (!fetch || region->execute);
	if (allowed)
		return region;
	namespace code = page_fault_code;
	return stop(Exception::page_fault(
		address, (region ? code::present : 0) | (write ? code::write : 0) |
				 (user ? code::user : 0) | (fetch ? code::fetch : 0)));
}

Outcome<MadeUpGuest::Pieces> MadeUpGuest::locate(u64 address, unsigned size, Access access)
{
	Pieces pieces;
	for (unsigned offset = 0; offset < size;) {
		const u64 place = address + offset;
		const unsigned bytes = static_cast<unsigned>(
			std::min<u64>(size - offset, page_size - place % page_size));
		if (pieces.count == 2)
			abort(); // more than the interface allows
		pieces.piece[pieces.count++] = {
			TRY(translate(place, access)), place, offset, bytes};
		offset += bytes;
	}
	return pieces;
}

Outcome<> MadeUpGuest::read(Gva address, void *data, unsigned size, Access access)
{
	if (size > 64)
		abort();
	const Pieces pieces = TRY(locate(address.value, size, access));
	for (unsigned i = 0; i < pieces.count; ++i) {
		const Piece &piece = pieces.piece[i];
		u8 *to = static_cast<u8 *>(data) + piece.offset;
		if (piece.region->bytes) {
			__builtin_memcpy(to,
				piece.region->bytes + piece.address - piece.region->base,
				piece.size);
			continue;
		}
		DeviceAccess access_made{piece.address, 0, piece.size};
		for (unsigned n = 0; n < piece.size; ++n) {
			const auto found = device_bytes.find(piece.address + n);
			const u8 byte = found == device_bytes.end() ? 0xff : found->second;
			to[n] = byte;
			if (n < 8)
				access_made.value |= u64{byte} << 8 * n;
		}
		// What an execution before this one has read is not read again.
		if (answers_taken_ < answers_) {
			if (device_reads[answers_begin_ + answers_taken_].address != piece.address)
				abort();
			++answers_taken_;
			continue;
		}
		device_reads.push_back(access_made);
		++answers_;
		if (devices_pend)
			return std::unexpected{Stop::pending};
		++answers_taken_;
	}
	return {};
}

Outcome<> MadeUpGuest::write(Gva address, const void *data, unsigned size, Access access)
{
	if (size > 64)
		abort();
	const Pieces pieces = TRY(locate(address.value, size, access));
	for (unsigned i = 0; i < pieces.count; ++i) {
		const Piece &piece = pieces.piece[i];
		const u8 *from = static_cast<const u8 *>(data) + piece.offset;
		if (piece.region->bytes) {
			__builtin_memcpy(piece.region->bytes + piece.address - piece.region->base,
				from, piece.size);
			continue;
		}
		DeviceAccess made{piece.address, 0, piece.size};
		__builtin_memcpy(&made.value, from, std::min(piece.size, 8u));
		device_writes.push_back(made);
	}
	return {};
}

Outcome<bool> MadeUpGuest::compare_exchange(
	Gva address, void *expected, const void *desired, unsigned size, Access access)
{
	const Pieces pieces = TRY(locate(address.value, size, access));
	u8 found[16];
	const unsigned taken = answers_taken_;
	if (!pieces.piece[0].region->bytes)
		answers_taken_ = 0; // what the read of a read-modify-write has brought
	TRY(read(address, found, size, access));
	answers_taken_ = std::max(answers_taken_, taken);
	if (lose_exchange) {
		lose_exchange = false;
		found[0] ^= 1;
	}
	if (__builtin_memcmp(found, expected, size) != 0) {
		__builtin_memcpy(expected, found, size);
		return false;
	}
	TRY(write(address, desired, size, access));
	return true;
}

Outcome<> MadeUpGuest::probe(Gva address, unsigned size, Access access)
{
	for (u64 offset = 0; offset < size;) {
		const u64 at = address.value + offset;
		TRY(translate(at, access));
		offset += page_size - at % page_size;
	}
	return {};
}

Outcome<unsigned> MadeUpGuest::fetch(Gva address, u8 *bytes, unsigned size)
{
	unsigned count = 0;
	while (count < size) {
		const usize raised_before = raised.size();
		const auto region = translate(address.value + count, Access::fetch);
		if (!region) {
			if (count == 0)
				return std::unexpected{region.error()};
			raised.resize(raised_before);
			break;
		}
		if (!(*region)->bytes)
			return std::unexpected{Stop::unknown};
		bytes[count] = (*region)->bytes[address.value + count - (*region)->base];
		++count;
	}
	bytes_fetched += count;
	return count;
}

// --- ports -------------------------------------------------------------------------------------

Outcome<unsigned> MadeUpGuest::port_read(u16 port, unsigned size, void *data, unsigned count)
{
	if (ports_pend && !port_answered_) {
		port_answered_ = true;
		return std::unexpected{Stop::pending};
	}
	count = std::min(count, ports_at_once);
	std::vector<u32> &queue = port_input[port];
	for (unsigned i = 0; i < count; ++i) {
		u32 value = ~0u;
		if (!queue.empty()) {
			value = queue.front();
			queue.erase(queue.begin());
		}
		__builtin_memcpy(static_cast<u8 *>(data) + i * size, &value, size);
		port_reads.push_back({port, static_cast<u32>(value & bits(8 * size - 1, 0)), size});
	}
	return count;
}

Outcome<unsigned> MadeUpGuest::port_write(u16 port, unsigned size, const void *data, unsigned count)
{
	count = std::min(count, ports_at_once);
	for (unsigned i = 0; i < count; ++i) {
		u32 value = 0;
		__builtin_memcpy(&value, static_cast<const u8 *>(data) + i * size, size);
		port_writes.push_back({port, value, size});
	}
	return count;
}

} // namespace kvmpp::x86::emulator::test
