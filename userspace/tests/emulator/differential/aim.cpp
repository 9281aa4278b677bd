// SPDX-License-Identifier: GPL-2.0-only
// Registers such that an instruction's accesses lie where they tell something: in the data pages,
// across their edges, in memory that is read-only or not there, at addresses that are not
// canonical.
#include <algorithm>
#include "tests/emulator/differential/generator.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

// How many bytes the memory operand has.
unsigned Generator::operand_bytes() const
{
	unsigned size = 1;
	for (const Operand &operand : instruction_.operands)
		if (operand.in_memory())
			size = std::max<unsigned>(size, operand.size);
	if (form_->is(op::cmpxchg_pair))
		size = instruction_.operand_size == 8 ? 16 : 8;
	if (form_->is_one_of(op::fxsave, op::fxrstor))
		size = 512;
	return size;
}

u64 Generator::target(unsigned size)
{
	u64 at = 0;
	const u64 choice = random_.below(64);
	if (choice < 40)
		at = data_pages + random_.below(data_size - size);
	else if (choice < 48)
		at = data_pages + page_size - random_.below(size + 1);
	else if (choice < 52)
		at = data_pages + data_size - random_.between(1, size);
	else if (choice < 55)
		at = constant_page + random_.below(page_size);
	else if (choice < 57)
		at = data_pages - random_.between(1, size);
	else if (choice < 60)
		at = arena + random_.below(0x100'0000);
	else if (choice < 62 || surroundings_.wide_addresses)
		at = bit(62) + random_.next() % bit(40);
	else
		at = bit(47) - random_.between(1, 16);
	const bool wants_alignment = form_->row->rules & rule::aligned ||
				     form_->is_one_of(op::cmpxchg_pair, op::fxsave, op::fxrstor);
	if (wants_alignment && !random_.one_in(8))
		at &= ~u64{63};
	// Kernels punish locked accesses that straddle cache lines.
	const bool locks = form_->lock || form_->is(op::xchg);
	if (locks && at % 64 + size > 64)
		at &= ~u64{63};
	return at;
}

void Generator::patch(unsigned bytes_before_end, u64 value, unsigned size)
{
	__builtin_memcpy(state_->code + state_->code_size - bytes_before_end, &value, size);
}

// Makes the memory operand lie at `at`, if its form allows it.
void Generator::aim(u64 at)
{
	const EffectiveAddress &address = instruction_.address;
	u64 *gprs = state_->registers.gpr;
	if (form_->row->has_source(Source::offset, Source::offset)) {
		patch(instruction_.address_size, at, instruction_.address_size);
		return;
	}
	if (address.segment == SegmentName::fs)
		at -= surroundings_.fs_base;
	else if (address.segment == SegmentName::gs)
		at -= gs_base;

	const bool free_base = address.base < 16 && address.base != address.index;
	if (free_base) {
		u64 rest = at - static_cast<u64>(address.displacement);
		if (address.index < 16)
			rest -= gprs[address.index] << address.scale;
		gprs[address.base] = rest;
		return;
	}
	if (address.base < 16) // base and index are one register
		gprs[address.base] = random_.below(16);
	else if (address.index < 16)
		gprs[address.index] = random_.below(1024);
	// What remains is the displacement's, of 4 bytes; immediates follow it.
	unsigned immediates = 0;
	for (unsigned n = 0; n < 3; ++n) {
		const Source source = form_->row->operands.shape[n].source;
		if (source == Source::immediate || source == Source::signed_immediate)
			immediates += instruction_.operands[n].size;
	}
	u64 distance = at;
	if (address.base == EffectiveAddress::rip)
		distance -= state_->registers.rip + state_->code_size;
	else if (address.base < 16)
		return; // it goes where it goes
	if (address.index < 16)
		distance -= gprs[address.index] << address.scale;
	patch(immediates + 4, distance, 4);
}

// Puts a value into memory before the state starts, if it lies in the data pages.
void Generator::poke(u64 at, u64 value, unsigned size, unsigned offset)
{
	if (at - data_pages >= data_size - sizeof(State::poke) ||
		offset + size > sizeof(State::poke))
		return;
	if (state_->poke_size == 0) {
		state_->poke_at = static_cast<u32>(at - data_pages);
		for (u8 &byte : state_->poke)
			byte = static_cast<u8>(random_.next());
		state_->poke_size = sizeof(State::poke);
	}
	if (state_->poke_at == at - data_pages)
		__builtin_memcpy(state_->poke + offset, &value, size);
}

void Generator::aim_string()
{
	const unsigned size = instruction_.operands[0].size;
	const auto start = [&] {
		return (target(size) & (random_.one_in(2) ? ~u64{0} : ~u64{size - 1u})) +
		       size * (random_.below(9) - 4);
	};
	u64 from = start();
	if (instruction_.data_segment == SegmentName::fs)
		from -= surroundings_.fs_base;
	else if (instruction_.data_segment == SegmentName::gs)
		from -= gs_base;
	gpr(Gpr::rsi) = from;
	gpr(Gpr::rdi) = start();
	if (instruction_.repeat != Repeat::none)
		gpr(Gpr::rcx) = random_.one_in(8) ? 0 : random_.below(48);
	if (form_->is_one_of(op::scas, op::cmps) && random_.one_in(2))
		poke(gpr(Gpr::rdi), gpr(Gpr::rax), 8);
	if (random_.one_in(4) && instruction_.address_size == 4) {
		gpr(Gpr::rsi) |= random_.next() << 32;
		gpr(Gpr::rdi) |= random_.next() << 32;
	}
}

void Generator::aim_stack()
{
	const bool rsp_used = form_->memory && (instruction_.address.base == 4);
	if (!rsp_used) {
		gpr(Gpr::rsp) = target(8) + random_.below(17);
		if (random_.one_in(2))
			gpr(Gpr::rsp) &= ~u64{7};
	}
	if (form_->is(op::leave) || form_->is(op::enter))
		gpr(Gpr::rbp) = target(8);
	const u64 top = form_->is(op::leave) ? gpr(Gpr::rbp) : gpr(Gpr::rsp);
	const unsigned size = instruction_.operand_size;
	if (form_->is(op::ret))
		poke(top, random_.one_in(8) ? random_.operand() : target(1), 8);
	if (form_->is(op::popf))
		poke(top, random_.next() & ~flag::tf, 8);
	if (form_->is(op::pop_segment))
		poke(top, selector(false), size);
	if (form_->is(op::ret_far) || form_->is(op::iret)) {
		const u64 where =
			random_.one_in(8) ? random_.operand() : code_page + random_.below(512);
		const u64 flags = (random_.next() & ~flag::tf) | flag::fixed;
		poke(top, where, size);
		poke(top, random_.one_in(4) ? selector(true) : 0x33, size, size);
		if (form_->is(op::iret)) {
			poke(top, flags, size, 2 * size);
			if (size < 8) {
				poke(top, target(8), size, 3 * size);
				poke(top, random_.one_in(4) ? selector(true) : 0x2b, size,
					4 * size);
			}
		}
	}
}

void Generator::aim_branch()
{
	const u64 where = random_.one_in(16) ? random_.operand() : target(1);
	const Operand &operand = instruction_.operands[0];
	if (form_->is_one_of(op::jmp_far_memory, op::call_far_memory)) {
		const unsigned size = instruction_.operand_size;
		poke(aimed_at_, random_.one_in(8) ? where : code_page + random_.below(512), size);
		poke(aimed_at_, random_.one_in(4) ? selector(true) : 0x33, 2, size);
	} else if (operand.kind == Operand::Kind::memory) {
		poke(aimed_at_, where, 8);
	} else if (operand.kind == Operand::Kind::gpr) {
		state_->registers.gpr[operand.number] = where;
	} else if (operand.kind == Operand::Kind::constant &&
		   form_->row->operands.shape[0].width == Width::z) {
		const unsigned size = instruction_.operands[0].size;
		patch(size, where - state_->registers.rip - state_->code_size, size);
	}
}

void Generator::aim_implicit()
{
	if (form_->is_one_of(op::movs, op::stos, op::lods, op::cmps, op::scas))
		aim_string();
	if (form_->is_one_of(op::jmp, op::jmp_relative, op::call, op::call_relative, op::jcc,
		    op::jmp_far_memory, op::call_far_memory))
		aim_branch();
	if (form_->is_one_of(op::push, op::push_segment, op::pop, op::pop_rm, op::pop_segment,
		    op::enter, op::leave, op::pushf, op::popf, op::call, op::call_relative, op::ret,
		    op::ret_far, op::iret, op::call_far_memory))
		aim_stack();
	if (form_->is(op::xlat))
		gpr(Gpr::rbx) = target(1) - (gpr(Gpr::rax) & 0xff);
	if (form_->is(op::store_masked))
		gpr(Gpr::rdi) = target(16);
	if (form_->is_one_of(op::loop, op::loope, op::loopne, op::jcxz) && random_.one_in(2))
		gpr(Gpr::rcx) = random_.below(3);
}

} // namespace kvmpp::x86::emulator::differential
