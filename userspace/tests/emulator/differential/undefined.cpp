// SPDX-License-Identifier: GPL-2.0-only
// The one table of status flags that the manual leaves undefined: SDM vol. 1, appendix A, and vol.
// 2 at each instruction.
#include "tests/emulator/differential/form.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

namespace
{

enum class Case : u8 {
	always,
	counted,      // a shift by anything but 0
	beyond_one,   // a shift by more than 1
	beyond_width, // by as much as the operand is wide, or more
	past_width,   // by more than that
};

struct Undefined {
	Handler *handler;
	Case when;
	u64 flags;
};

using namespace flag;

constexpr Undefined table[] = {
	{op::and_, Case::always, af},
	{op::or_, Case::always, af},
	{op::xor_, Case::always, af},
	{op::test, Case::always, af},
	{op::mul, Case::always, sf | zf | af | pf},
	{op::imul, Case::always, sf | zf | af | pf},
	{op::imul_two, Case::always, sf | zf | af | pf},
	{op::imul_three, Case::always, sf | zf | af | pf},
	{op::div, Case::always, status},
	{op::idiv, Case::always, status},
	{op::shl, Case::counted, af},
	{op::shl, Case::beyond_one, of},
	{op::shl, Case::beyond_width, cf},
	{op::shr, Case::counted, af},
	{op::shr, Case::beyond_one, of},
	{op::shr, Case::beyond_width, cf},
	{op::sar, Case::counted, af},
	{op::sar, Case::beyond_one, of},
	{op::rol, Case::beyond_one, of},
	{op::ror, Case::beyond_one, of},
	{op::rcl, Case::beyond_one, of},
	{op::rcr, Case::beyond_one, of},
	{op::shld, Case::counted, af},
	{op::shld, Case::beyond_one, of},
	{op::shld, Case::past_width, status},
	{op::shrd, Case::counted, af},
	{op::shrd, Case::beyond_one, of},
	{op::shrd, Case::past_width, status},
	{op::bt, Case::always, of | sf | af | pf},
	{op::bts, Case::always, of | sf | af | pf},
	{op::btr, Case::always, of | sf | af | pf},
	{op::btc, Case::always, of | sf | af | pf},
	{op::bsf, Case::always, cf | of | sf | af | pf},
	{op::bsr, Case::always, cf | of | sf | af | pf},
	{op::tzcnt, Case::always, of | sf | af | pf},
	{op::lzcnt, Case::always, of | sf | af | pf},
	{op::andn, Case::always, af | pf},
	{op::blsr, Case::always, af | pf},
	{op::blsmsk, Case::always, af | pf},
	{op::blsi, Case::always, af | pf},
	{op::bextr, Case::always, sf | af | pf},
	{op::bzhi, Case::always, af | pf},
};

bool holds(Case when, const Instruction &instruction, unsigned count)
{
	const unsigned width = 8u * instruction.operands[0].size;
	switch (when) {
	case Case::always: return true;
	case Case::counted: return count != 0;
	case Case::beyond_one: return count > 1;
	case Case::beyond_width: return count >= width;
	case Case::past_width: return count > width;
	}
	return false;
}

} // namespace

u64 undefined_flags(const Instruction &instruction, unsigned count)
{
	u64 flags = 0;
	for (const Undefined &entry : table)
		if (entry.handler == instruction.row->handler &&
			holds(entry.when, instruction, count))
			flags |= entry.flags;
	return flags;
}

bool undefined_result(const Instruction &instruction, unsigned count)
{
	const Form form{.row = instruction.row};
	if (form.is_one_of(op::shld, op::shrd))
		return holds(Case::past_width, instruction, count);
	return form.is(op::bswap) && instruction.operands[0].size == 2;
}

} // namespace kvmpp::x86::emulator::differential
