// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/any_bytes.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include "tests/emulator/differential/random.h"
#include "tests/emulator/made_up_guest.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

using differential::Random;

constexpr u64 low_memory = 0, low_size = 0x10000;
constexpr u64 high_memory = 0xffff'f000; // the last page below 4 GiB
constexpr u64 device_page = 0x10000, read_only_page = 0x12000;
constexpr unsigned most_steps = 8;
constexpr u16 gdt_base = 0x1000, idt_base = 0x2000, tss_base = 0x3000, ldt_base = 0x4000;

// What is being tried, for the message that ends the program.
std::span<const u8> current;

void show_current()
{
	for (u8 byte : current)
		fprintf(stderr, " %02x", byte);
	fputc('\n', stderr);
}

#define REQUIRE(condition)                                                              \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			show_current();                                                 \
			abort();                                                        \
		}                                                                       \
	} while (0)

// Takes what the input says, then 0.
class Input {
public:
	explicit Input(std::span<const u8> bytes) : bytes_{bytes} {}
	u8 byte()
	{
		if (bytes_.empty())
			return 0;
		const u8 value = bytes_.front();
		bytes_ = bytes_.subspan(1);
		return value;
	}
	u64 word()
	{
		u64 value = 0;
		for (unsigned i = 0; i < 4; ++i)
			value = value << 8 | byte();
		return value;
	}
	std::span<const u8> rest() const { return bytes_; }

private:
	std::span<const u8> bytes_;
};

// Addresses are likely ones where something is.
u64 value_near_memory(Random &random)
{
	switch (random.below(8)) {
	case 0: return random.operand();
	case 1: return high_memory + random.below(page_size);
	case 2: return device_page - random.below(16);
	case 3: return read_only_page + random.below(page_size);
	case 4: return 0xffff - random.below(16);
	default: return random.below(low_size);
	}
}

Segment any_segment(Random &random, Mode mode, unsigned cpl)
{
	Segment segment{};
	segment.selector = static_cast<u16>((random.next() & 0xfffc) | cpl);
	if (mode == Mode::real || mode == Mode::virtual8086) {
		segment.base = u64{segment.selector} << 4;
		segment.limit = 0xffff;
		segment.rights = {mode == Mode::real ? 0x93u : 0xf3u};
		return segment;
	}
	segment.base = random.one_in(2) ? 0 : random.below(low_size);
	segment.limit = random.one_in(2) ? 0xffff'ffff : static_cast<u32>(random.below(0x20000));
	segment.rights = {static_cast<u32>(0x93 | cpl << 5 | (random.next() & 0xc00f))};
	if (random.one_in(16))
		segment.rights = {AccessRights::unusable_bit};
	return segment;
}

class AnyGuest {
public:
	AnyGuest();
	void become(Mode mode, unsigned cpl, Random &random);
	MadeUpGuest guest;

private:
	std::unique_ptr<u8[]> pristine_ = std::make_unique<u8[]>(low_size);
	u8 *low_ = nullptr;
};

AnyGuest::AnyGuest()
{
	low_ = guest.add_ram(low_memory, low_size).bytes;
	guest.add_ram(high_memory, page_size);
	guest.add_device(device_page, page_size);
	guest.add_ram(read_only_page, page_size);
	guest.regions.back().write = false;
	Random random{1};
	for (u64 at = 0; at < low_size; ++at)
		pristine_[at] = static_cast<u8>(random.next());
	// Descriptors that are likely to be valid, of every type.
	for (u64 table : {u64{gdt_base}, u64{idt_base}, u64{ldt_base}})
		for (unsigned i = 0; i < 256; ++i) {
			u64 descriptor = random.next();
			const u64 type = i % 32, dpl = i / 32 % 4;
			descriptor &= ~(0xffff'ff00'0000'0000 | 0xffff'0000ull);
			descriptor |= (type | dpl << 5 | (random.one_in(8) ? 0 : 0x80)) << 40;
			descriptor |= (random.next() & 0xf) << 52 | (random.next() & 0xfff8) << 16;
			memcpy(&pristine_[table + 8 * i], &descriptor, 8);
		}
}

void AnyGuest::become(Mode mode, unsigned cpl, Random &random)
{
	memcpy(low_, pristine_.get(), low_size);
	guest.current_mode = mode;
	guest.current_cpl = mode == Mode::real ? 0 : mode == Mode::virtual8086 ? 3 : cpl;
	for (u64 &value : guest.gpr.values)
		value = value_near_memory(random);
	guest.rflags = (random.next() & 0x3f'4fd5) | MadeUpGuest::flag_fixed;
	guest.rflags &= ~u64{X86_EFLAGS_VM};
	if (mode == Mode::virtual8086)
		guest.rflags |= X86_EFLAGS_VM;
	for (u8 i = 0; i < 6; ++i)
		guest.segments[i] = any_segment(random, mode, guest.current_cpl);
	Segment &cs = guest.segments[static_cast<u8>(SegmentName::cs)];
	if (mode >= Mode::protected16) {
		cs.rights.raw = 0x9b | guest.current_cpl << 5 |
				(mode == Mode::protected32 ? 0x4000 : 0) |
				(mode == Mode::long64 ? 0x2000 : 0);
		guest.segments[static_cast<u8>(SegmentName::ss)].rights.raw =
			0x93 | guest.current_cpl << 5 | (random.next() & 0x4000);
	}
	const bool long_mode =
		mode == Mode::long64 || (mode >= Mode::protected16 && random.one_in(2));
	guest.efer_value = long_mode ? efer::sce | efer::lme | efer::lma : 0;
	guest.cr[0] = (mode == Mode::real ? 0 : X86_CR0_PE) | (long_mode ? X86_CR0_PG : 0) |
		      (random.next() & (X86_CR0_AM | X86_CR0_WP)) |
		      (random.one_in(8) ? X86_CR0_TS | X86_CR0_EM : 0);
	guest.cr[4] = random.next() & 0x37ff;
	guest.cr[4] |= random.one_in(2) ? X86_CR4_OSFXSR | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE : 0;
	guest.gdtr = {gdt_base, static_cast<u16>(random.one_in(4) ? random.below(0x800) : 0x7ff)};
	guest.idtr = {idt_base, static_cast<u16>(random.one_in(4) ? random.below(0x800) : 0x7ff)};
	const u32 tss_type = long_mode ? 0x8b : random.one_in(2) ? 0x8b : 0x83;
	guest.segments[static_cast<u8>(SegmentName::tr)] = {0x58,
		static_cast<u32>(random.one_in(4) ? random.below(0x100) : 0x2067), tss_base,
		{tss_type}};
	guest.segments[static_cast<u8>(SegmentName::ldtr)] = {0x10, 0x7ff, ldt_base, {0x82}};
	guest.msrs = {{0xc0000081, random.next()}, {0xc0000082, random.operand()},
		{0xc0000084, 0x200}, {0xc0000102, random.operand()},
		{0x174, random.next() & 0xffff}, {0x175, random.operand()},
		{0x176, random.operand()}};
	guest.devices_pend = random.one_in(2);
	guest.ports_pend = random.one_in(2);
	guest.ports_at_once = static_cast<unsigned>(random.between(1, 64));
	guest.lose_exchange = random.one_in(8);
	guest.rip = mode == Mode::real || mode == Mode::virtual8086 ? random.below(0xffff)
								    : random.below(low_size);
	guest.iterations_allowed = static_cast<unsigned>(random.between(1, 40));
	guest.forget();
}

// What must hold after anything that the emulator was asked for.
void check_outcome(MadeUpGuest &guest, const Outcome<> &outcome)
{
	const bool exception = !outcome && outcome.error() == Stop::exception;
	REQUIRE(guest.raised.size() == (exception ? 1 : 0));
	REQUIRE(guest.rflags & MadeUpGuest::flag_fixed);
	REQUIRE(guest.efer_value || guest.rip <= 0xffff'ffff);
}

void execute_bytes(MadeUpGuest &guest, std::span<const u8> code)
{
	const u64 base = guest.current_mode == Mode::long64
				 ? 0
				 : guest.segments[static_cast<u8>(SegmentName::cs)].base;
	u64 at = (base + guest.rip) % low_size;
	guest.rip = (at - base) & (guest.current_mode == Mode::long64 ? ~u64{0} : 0xffff'ffff);
	if (guest.current_mode == Mode::long64)
		guest.rip = at;
	guest.poke(at, code.first(std::min<usize>(code.size(), low_size - at)));
	for (unsigned step = 0; step < most_steps; ++step) {
		const Gprs before = guest.gpr;
		const u64 rip = guest.rip;
		const unsigned iterations = guest.iterations;
		guest.raised.clear();
		guest.bytes_fetched = 0;
		const bool race = guest.lose_exchange;
		const Outcome<> outcome = guest.step();
		REQUIRE(guest.bytes_fetched <= 15 && guest.executed.byte_count <= 15);
		check_outcome(guest, outcome);
		const bool progress =
			before.values != guest.gpr.values || iterations != guest.iterations || race;
		if (outcome && !guest.executed.retired)
			REQUIRE(guest.rip == rip && progress);
		if (!outcome && outcome.error() != Stop::pending)
			return;
		// Others may change the mode; the state is no longer what it was made for.
		if (outcome && guest.executed.retired)
			return;
	}
}

} // namespace

void try_bytes(std::span<const u8> bytes)
{
	static AnyGuest any;
	current = bytes;
	Input input{bytes};
	const u8 what = input.byte();
	const auto mode = static_cast<Mode>(what % 5);
	const unsigned cpl = what >> 3 & 3;
	Random random{input.word()};
	any.become(mode, cpl, random);
	MadeUpGuest &guest = any.guest;

	if (what >> 5 != 0 || input.rest().empty()) {
		execute_bytes(guest, input.rest());
		return;
	}
	Registers registers{guest.gpr, guest.rip, guest.rflags};
	if (what & 4 || mode < Mode::protected16 || guest.efer_value) {
		Event event{input.byte(), static_cast<Event::Kind>(input.byte() % 4), {}};
		if (input.byte() & 1)
			event.error_code = static_cast<u32>(input.word());
		check_outcome(guest, deliver(guest, registers, event));
		return;
	}
	const u16 selector = static_cast<u16>(input.word());
	const auto reason = static_cast<TaskSwitch>(input.byte() % 4);
	std::optional<u32> error_code;
	if (input.byte() & 1)
		error_code = static_cast<u32>(input.word());
	check_outcome(guest, switch_task(guest, registers, selector, reason, error_code));
}

} // namespace kvmpp::x86::emulator::test
