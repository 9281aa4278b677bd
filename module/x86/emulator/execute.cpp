// SPDX-License-Identifier: GPL-2.0-only
// The way of an instruction: fetch, decode, check, load operands, execute, store, retire.
#include <algorithm>
#include "x86/emulator/execution.h"
#include "x86/emulator/plain_move.h"
#include "x86/emulator/units.h"

namespace kvmpp::x86::emulator
{

namespace
{

// Where code is read, and how many bytes of an instruction the code segment leaves.
struct Code {
	Gva start;
	unsigned limit;
};

std::unexpected<Stop> gp(Guest &guest, Mode mode)
{
	guest.raise(mode == Mode::real ? Exception::plain(Vector::general_protection)
				       : Exception::gp());
	return std::unexpected{Stop::exception};
}

Outcome<Code> locate(Guest &guest, u64 rip, Mode mode)
{
	if (mode == Mode::long64) {
		const unsigned width = guest.control(4) & X86_CR4_LA57 ? 56 : 47;
		const u64 half = bit(width);
		if (rip >= half && rip < -half)
			return gp(guest, mode);
		const u64 left = rip < half ? half - rip : max_instruction_bytes;
		return Code{Gva{rip},
			static_cast<unsigned>(std::min<u64>(left, max_instruction_bytes))};
	}
	const Segment cs = guest.segment(SegmentName::cs);
	const u64 offset = rip & 0xffff'ffff;
	if (offset > cs.limit)
		return gp(guest, mode);
	const u64 left = u64{cs.limit} - offset + 1;
	return Code{Gva{(cs.base + offset) & 0xffff'ffff},
		static_cast<unsigned>(std::min<u64>(left, max_instruction_bytes))};
}

Outcome<> fetch_and_decode(
	Guest &guest, const Code &code, Mode mode, Instruction &instruction, Executed &executed)
{
	for (;;) {
		instruction = Instruction{};
		switch (decode(instruction, {executed.bytes, executed.byte_count}, mode)) {
		case Decoded::complete: executed.length = instruction.length; return {};
		case Decoded::undefined:
			guest.raise(Exception::ud());
			return std::unexpected{Stop::exception};
		case Decoded::unknown: return std::unexpected{Stop::unknown};
		case Decoded::truncated: break;
		}
		// Too long, or beyond the segment's limit: #GP either way.
		if (executed.byte_count >= code.limit)
			return gp(guest, mode);
		const unsigned more = TRY(guest.fetch(code.start + executed.byte_count,
			executed.bytes + executed.byte_count, code.limit - executed.byte_count));
		if (more == 0 || more > code.limit - executed.byte_count)
			return std::unexpected{Stop::unknown};
		executed.byte_count += static_cast<u8>(more);
	}
}

// Everything that can be wrong before an operand is touched, in the processor's order: undefined,
// device not available, privilege.
Outcome<> check(Execution &x)
{
	const Row &row = *x.instruction.row;
	const rule::Rules rules = row.rules;

	if (x.instruction.lock && !((rules & rule::lock) && x.dst.in_memory()))
		return x.undefined();
	constexpr rule::Rules anything = rule::no64 | rule::only64 | rule::pm | rule::cpl0 |
					 rule::cpl0_ud | rule::umip | rule::x87 | rule::mmx |
					 rule::sse | rule::avx;
	if (!(rules & anything) && row.feature == Feature::always) [[likely]]
		return {};

	if ((rules & rule::no64 && x.long_mode()) || (rules & rule::only64 && !x.long_mode()) ||
		(rules & rule::pm && !x.protected_mode()) || !x.has(row.feature) ||
		(rules & rule::cpl0_ud && x.cpl() != 0))
		return x.undefined();
	TRY(check_units(x, rules));
	if (rules & rule::cpl0 && x.cpl() != 0)
		return x.gp();
	if (rules & rule::umip && x.cpl() != 0 && x.guest.control(4) & X86_CR4_UMIP)
		return x.gp();
	return {};
}

Outcome<> perform(Execution &x)
{
	const rule::Rules rules = x.instruction.row->rules;
	if (rules & rule::manual)
		return x.instruction.row->handler(x);
	if (!(rules & rule::store))
		TRY(x.load(x.dst));
	TRY(x.load(x.src));
	TRY(x.load(x.src2));
	const u64 old = x.dst.value;
	TRY(x.instruction.row->handler(x));
	if (rules & rule::update)
		return x.update(old, x.dst.value);
	if (rules & rule::store)
		return x.store(x.dst, x.dst.value);
	return {};
}

} // namespace

Outcome<> execute(Guest &guest, Registers &registers, Executed &executed)
{
	executed.byte_count = executed.length = 0;
	executed.retired = false;
	const Mode mode = guest.mode();
	const Code code = TRY(locate(guest, registers.rip, mode));
	const unsigned count = TRY(guest.fetch(code.start, executed.bytes, code.limit));
	executed.byte_count = static_cast<u8>(std::min(count, code.limit));

	if (mode == Mode::long64) {
		const PlainMove move{executed, registers};
		if (move.applies())
			return move.execute(guest);
	}

	Instruction instruction;
	TRY(fetch_and_decode(guest, code, mode, instruction, executed));
	Execution x{guest, registers, mode, instruction};
	x.rip += instruction.length;
	if (mode != Mode::long64)
		x.rip &= 0xffff'ffff;
	x.address = x.effective_address();
	TRY(check(x));
	TRY(perform(x));
	if (!x.retired)
		return {};
	if (!x.keep_rf)
		x.rflags &= ~flag::rf;
	x.commit();
	executed.retired = true;
	return {};
}

} // namespace kvmpp::x86::emulator
