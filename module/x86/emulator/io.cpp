// SPDX-License-Identifier: GPL-2.0-only
// IN, OUT, INS, OUTS and who may use them. SDM vol. 1, ch. 19.
#include <algorithm>
#include "x86/emulator/operations.h"
#include "x86/emulator/string.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

constexpr unsigned tss_io_base = 102; // SDM vol. 3, 8.2.1 and 8.7
constexpr unsigned smallest_tss_limit = 103;
constexpr unsigned block_bytes = 512; // at most so much of a string at once,
constexpr unsigned piece_bytes = 64;  // in accesses as large as Guest takes them

bool is_32bit_tss(const Segment &tr)
{
	const unsigned type = tr.rights.type();
	return tr.rights.present() && !tr.rights.unusable() && (type == 9 || type == 11);
}

// Refusal is #GP(0): SDM vol. 1, 19.5.
Outcome<> check_port(Execution &x, u16 port, unsigned size)
{
	if (x.mode == Mode::real || (x.mode != Mode::virtual8086 && x.cpl() <= x.iopl()))
		return {};
	const Segment tr = x.guest.segment(SegmentName::tr);
	if (!is_32bit_tss(tr) || tr.limit < smallest_tss_limit)
		return x.gp();
	const u64 base = TRY(x.read_system(tr.base, tss_io_base, 2));
	const u64 offset = base + port / 8;
	// Two bytes are always read, so that a range may straddle them.
	if (offset + 1 > tr.limit)
		return x.gp();
	const u64 map = TRY(x.read_system(tr.base, offset, 2));
	if (map >> (port % 8) & bits(size - 1, 0))
		return x.gp();
	return {};
}

u16 dx(const Execution &x)
{
	return static_cast<u16>(x.gpr[Gpr::rdx]);
}

// How many elements of a string, from the one that was checked on, can go at once: those that lie
// in its page and its segment. Downwards they go one by one.
unsigned block_count(const Execution &x, SegmentName name, u64 offset, Gva linear, u64 left)
{
	if (x.instruction.repeat == Repeat::none || x.rflags & (flag::df | flag::tf))
		return 1;
	u64 room = std::min<u64>(page_size - linear.offset(), block_bytes);
	room = std::min(room, value_mask(x.instruction.address_size) - offset);
	if (!x.long_mode()) {
		const Segment segment = x.guest.segment(name);
		if (segment.rights.expand_down())
			return 1;
		room = std::min(room, segment.limit - offset);
	}
	return static_cast<unsigned>(std::clamp<u64>(room / x.dst.size, 1, left));
}

Outcome<u64> input_elements(Execution &x, u64 left)
{
	u8 data[block_bytes];
	const unsigned size = x.dst.size;
	const u64 offset = string_offset(x, Gpr::rdi);
	const Gva to = TRY(x.linear(SegmentName::es, offset, size, Access::write, size));
	const unsigned count = block_count(x, SegmentName::es, offset, to, left);
	// What comes out of a port is gone: first see that it can be stored.
	TRY(x.guest.probe(to, count * size, Access::write));
	const unsigned got = std::min(TRY(x.guest.port_read(dx(x), size, data, count)), count);
	for (unsigned at = 0; at < got * size; at += piece_bytes)
		TRY(x.write_linear(
			to + at, data + at, std::min(piece_bytes, got * size - at), Access::write));
	string_advance(x, Gpr::rdi, got * size);
	return got;
}

Outcome<u64> output_elements(Execution &x, u64 left)
{
	u8 data[block_bytes];
	const unsigned size = x.dst.size;
	const SegmentName segment = x.instruction.data_segment;
	const u64 offset = string_offset(x, Gpr::rsi);
	const Gva from = TRY(x.linear(segment, offset, size, Access::read, size));
	const unsigned count = block_count(x, segment, offset, from, left);
	for (unsigned at = 0; at < count * size; at += piece_bytes)
		TRY(x.read_linear(from + at, data + at, std::min(piece_bytes, count * size - at),
			Access::read));
	const unsigned sent = std::min(TRY(x.guest.port_write(dx(x), size, data, count)), count);
	string_advance(x, Gpr::rsi, sent * size);
	return sent;
}

} // namespace

Outcome<> in(Execution &x)
{
	const u16 port = static_cast<u16>(x.src.value);
	TRY(check_port(x, port, x.dst.size));
	x.dst.value = 0;
	TRY(x.guest.port_read(port, x.dst.size, &x.dst.value, 1));
	return {};
}

Outcome<> out(Execution &x)
{
	const u16 port = static_cast<u16>(x.dst.value);
	TRY(check_port(x, port, x.src.size));
	TRY(x.guest.port_write(port, x.src.size, &x.src.value, 1));
	return {};
}

Outcome<> ins(Execution &x)
{
	TRY(check_port(x, dx(x), x.dst.size));
	return repeat(x, input_elements, false);
}

Outcome<> outs(Execution &x)
{
	TRY(check_port(x, dx(x), x.dst.size));
	return repeat(x, output_elements, false);
}

} // namespace kvmpp::x86::emulator::op
