// SPDX-License-Identifier: GPL-2.0-only
// The bytes of a random instruction of a form, and the registers around it.
#include <algorithm>
#include "tests/emulator/differential/generator.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

void Generator::encode_prefixes()
{
	constexpr u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	constexpr when::Condition any = when::np | when::p66 | when::pf3 | when::pf2;

	// Too long for the processor, which sees that before anything else.
	const bool too_long = random_.one_in(128) && !form_->is(op::undefined);
	if (too_long)
		for (u64 n = random_.between(8, 14); n > 0; --n)
			put(0x3e);
	if (form_->lock)
		put(0xf0);
	else if (random_.one_in(64) && !too_long && !(form_->row->rules & rule::lock) &&
		 !form_->is_one_of(op::mov_to_control, op::mov_from_control, op::verw))
		put(0xf0); // AMD has a meaning for it with control registers, and lets VERW pass
	if (random_.one_in(6))
		put(segments[random_.below(6)]);
	if (random_.one_in(6))
		put(0x67);
	if (form_->prefix && !form_->map->vex)
		put(form_->prefix);
	// AMD's LOOP takes F2 and F3 for a condition.
	const bool repeats = form_->is_one_of(op::movs, op::stos, op::lods, op::cmps, op::scas,
		op::ins, op::outs, op::loope, op::loopne);
	if (form_->prefix < 0xf2 && (form_->row->condition & any) == any && !repeats &&
		random_.one_in(32))
		put(random_.one_in(2) ? 0xf2 : 0xf3);
}

void Generator::encode_vex()
{
	const Map &map = *form_->map;
	const u8 pp = form_->prefix == 0x66 ? 1 : form_->prefix == 0xf3 ? 2 : form_->prefix ? 3 : 0;
	const bool uses_vvvv = form_->row->has_source(Source::vvvv, Source::vector_vvvv);
	const u8 vvvv = uses_vvvv || random_.one_in(64) ? static_cast<u8>(random_.below(16)) : 15;
	const u8 tail = static_cast<u8>(vvvv << 3 | form_->l << 2 | pp);
	if (map.vex == 1 && !form_->w && random_.one_in(2)) {
		put(0xc5);
		put(random_.below(2) << 7 | tail);
	} else {
		put(0xc4);
		put(random_.below(8) << 5 | map.vex);
		put(static_cast<u8>(form_->w << 7) | tail);
	}
}

void Generator::encode()
{
	const Row &row = *form_->row;
	state_->code_size = 0;
	encode_prefixes();
	if (form_->map->vex) {
		encode_vex();
	} else {
		if (form_->w || !random_.one_in(3))
			put(0x40 | form_->w << 3 | random_.below(8));
		for (u8 escape : form_->map->escape)
			if (escape)
				put(escape);
	}
	put(form_->opcode);
	if (row.has_modrm()) {
		const u64 reg = row.opcode.reg == Opcode::any ? random_.below(8) : row.opcode.reg;
		const u64 rm = row.opcode.rm == Opcode::any ? random_.below(8) : row.opcode.rm;
		put((form_->memory ? random_.below(3) : 3) << 6 | reg << 3 | rm);
	}
	// What the instruction has beyond, it has from here; the rest is cut off.
	while (state_->code_size < sizeof(state_->code))
		put(random_.operand());
	instruction_ = Instruction{};
	const std::span<const u8> bytes{state_->code, max_instruction_bytes};
	decoded_ = decode(instruction_, bytes, Mode::long64) == Decoded::complete;
	state_->code_size = decoded_ ? instruction_.length : max_instruction_bytes;
}

void Generator::fill_registers()
{
	constexpr u64 settable = flag::status | flag::df | flag::id;
	Registers64 &registers = state_->registers;
	registers = {};
	for (u64 &value : registers.gpr)
		value = random_.operand();
	registers.rflags = (random_.next() & settable) | flag::fixed | flag::interrupt;
	if (random_.one_in(16))
		registers.rflags |= flag::ac;
	registers.fs_base = surroundings_.fs_base;
	registers.gs_base = gs_base;
}

void Generator::fill_extended()
{
	XsaveImage &image = state_->extended;
	image = {};
	for (unsigned at = 32; at < 416; at += 8) {
		const u64 value = random_.operand();
		__builtin_memcpy(image.legacy + at, &value, 8);
	}
	// The registers of the x87 have ten bytes each.
	for (unsigned at = 32; at < 160; at += 16)
		__builtin_memset(image.legacy + at + 10, 0, 6);
	for (auto &half : image.upper)
		for (u8 &byte : half)
			byte = static_cast<u8>(random_.next());
	// No exception is pending unless it is unmasked, and then the summary says so.
	const u16 control = static_cast<u16>((random_.next() & 0x0f3f) | 0x40);
	u16 status = static_cast<u16>(random_.next() & 0x7f7f);
	if (!random_.one_in(4))
		status &= static_cast<u16>(~0x3f | control);
	if (status & ~control & 0x3f)
		status |= 0x8080;
	const u32 mxcsr = static_cast<u32>(random_.next() & 0xffbf);
	__builtin_memcpy(image.legacy, &control, 2);
	__builtin_memcpy(image.legacy + 2, &status, 2);
	image.legacy[4] = static_cast<u8>(random_.next());
	__builtin_memcpy(image.legacy + 24, &mxcsr, 4);
	image.header[0] = 7;
}

// Where it lies in the code page: somewhere in it, or so that its end, or part of it, is the
// page's. How many bytes of an undefined instruction the processor wants to see is its own affair.
void Generator::place_code()
{
	u64 offset = random_.between(512, page_size - 512);
	if (decoded_ && !form_->is(op::undefined) && random_.one_in(32))
		offset = page_size - random_.between(1, state_->code_size);
	state_->registers.rip = code_page + offset;
}

bool Generator::generate(const Form &form, State &state)
{
	constexpr rule::Rules units = rule::x87 | rule::mmx | rule::sse | rule::avx;
	form_ = &form;
	state_ = &state;
	state.run = true;
	state.poke_size = 0;
	state.uses_extended = form.row->rules & units || form.is(op::fwait);
	state.uses_segments = form.is_one_of(op::mov_segment, op::pop_segment) ||
			      form.is_one_of(op::lss, op::lfs, op::lgs);
	encode();
	if (decoded_ && instruction_.row != form.row)
		return false;
	fill_registers();
	if (state.uses_extended)
		fill_extended();
	place_code();
	if (!decoded_)
		return true;
	if ((form.memory && !form.row->has_source(Source::gpr_rm, Source::gpr_rm)) ||
		form.row->has_source(Source::offset, Source::offset)) {
		aimed_at_ = target(operand_bytes());
		aim(aimed_at_);
	}
	choose_values();
	aim_implicit();
	return true;
}

} // namespace kvmpp::x86::emulator::differential
