// SPDX-License-Identifier: GPL-2.0-only
// Operands for which an instruction does more than fault or fail to match.
#include "tests/emulator/differential/generator.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

// A selector that means the same to every kernel: null, of a descriptor beyond the GDT, of an LDT
// that is not there, or of the flat segments that every 64-bit program has.
u16 Generator::selector(bool may_succeed)
{
	const u64 rpl = random_.below(4);
	switch (random_.below(may_succeed ? 6 : 3)) {
	case 0: return static_cast<u16>(0x8000 | (random_.next() & 0x7ff8) | rpl);
	case 1: return static_cast<u16>(0xfff8 | rpl);
	case 2: return static_cast<u16>(0x1004 | rpl);
	case 3: return static_cast<u16>(rpl);
	case 4: return 0x2b;
	default: return 0x33;
	}
}

void Generator::choose_values()
{
	u64 *gprs = state_->registers.gpr;
	const Operand &first = instruction_.operands[0], &second = instruction_.operands[1];
	const auto is_gpr = [](const Operand &operand) {
		return operand.kind == Operand::Kind::gpr;
	};

	// A bit number in a register reaches beyond memory: not too far.
	if (form_->is_one_of(op::bt, op::bts, op::btr, op::btc) && form_->memory &&
		is_gpr(second) && second.number != instruction_.address.base &&
		second.number != instruction_.address.index) {
		const u64 near = random_.below(1024) - 512;
		const u64 mask = bits(8 * second.size - 1, 0);
		u64 &number = gprs[second.number];
		number = (number & ~mask) | (near & mask);
		if (form_->lock)
			number &= ~(mask & ~u64{15});
	}
	if (form_->is_one_of(op::div, op::idiv) && !random_.one_in(3)) {
		gpr(Gpr::rdx) = form_->is(op::idiv) && random_.one_in(2) ? ~u64{0} : 0;
		if (first.size == 1)
			gpr(Gpr::rax) &= 0xff;
	}
	if (form_->is(op::cmpxchg) && random_.one_in(2)) {
		poke(aimed_at_, gpr(Gpr::rax), 8);
		if (is_gpr(first))
			gprs[first.number] = gpr(Gpr::rax);
	}
	if (form_->is(op::cmpxchg_pair) && random_.one_in(2)) {
		const unsigned half = instruction_.operand_size == 8 ? 8 : 4;
		poke(aimed_at_, gpr(Gpr::rax), half);
		poke(aimed_at_, gpr(Gpr::rdx), half, half);
	}
	if (form_->is(op::cpuid)) {
		constexpr u32 same_everywhere[] = {
			0, 2, 0x80000000, 0x80000002, 0x80000003, 0x80000004};
		gpr(Gpr::rax) = same_everywhere[random_.below(6)] | random_.next() << 32;
		gpr(Gpr::rcx) = 0;
	}
	if (form_->is(op::xgetbv)) // XINUSE is the processor's own
		gpr(Gpr::rcx) = random_.one_in(4) ? 2 + random_.below(100) : 0;
	if (form_->is(op::int_n))
		while (const u8 vector = state_->code[state_->code_size - 1]) {
			if (vector != 3 && vector != 4 && vector != 0x80)
				break;
			patch(1, random_.next(), 1);
		}
	if (form_->is_one_of(op::ldmxcsr, op::fxrstor)) {
		const u32 value =
			static_cast<u32>(random_.next() & (random_.one_in(8) ? ~0u : 0xffbf));
		if (form_->is(op::ldmxcsr))
			poke(aimed_at_, value, 4);
		else if (form_->memory)
			poke(aimed_at_ + 24, value, 4);
	}
	if (form_->is_one_of(op::mov_segment, op::lar, op::lsl, op::verr, op::verw)) {
		const Operand &source = form_->is_one_of(op::verr, op::verw) ? first : second;
		const bool harmless = !form_->is(op::mov_segment) ||
				      first.number == static_cast<u8>(SegmentName::ds) ||
				      first.number == static_cast<u8>(SegmentName::es);
		const u16 value = selector(harmless);
		poke(aimed_at_, value, 2);
		if (is_gpr(source))
			gprs[source.number] = (gprs[source.number] & ~u64{0xffff}) | value;
		if (form_->memory && state_->poke_size == 0)
			state_->run = false; // whatever is there could succeed
	}
	if (form_->is_one_of(op::lss, op::lfs, op::lgs))
		poke(aimed_at_, selector(false), 2, instruction_.operand_size);
	if (form_->is_one_of(op::wrfsbase, op::wrgsbase) && is_gpr(first) && random_.one_in(2))
		gprs[first.number] = random_.next() >> 17;
}

} // namespace kvmpp::x86::emulator::differential
