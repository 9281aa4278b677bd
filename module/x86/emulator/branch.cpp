// SPDX-License-Identifier: GPL-2.0-only
// Near jumps, calls, returns and loops.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

Outcome<> jmp(Execution &x)
{
	return x.jump(x.dst.value);
}

Outcome<> jmp_relative(Execution &x)
{
	return x.jump(x.rip + x.dst.value);
}

Outcome<> jcc(Execution &x)
{
	return condition_holds(x.instruction.opcode, x.rflags) ? jmp_relative(x) : Outcome<>{};
}

static Outcome<> call_to(Execution &x, u64 target)
{
	const u64 next = x.rip;
	TRY(x.jump(target));
	return x.push(next, x.instruction.operand_size);
}

Outcome<> call(Execution &x)
{
	return call_to(x, x.dst.value);
}

Outcome<> call_relative(Execution &x)
{
	return call_to(x, x.rip + x.dst.value);
}

// With an operand: as many bytes of parameters are released.
Outcome<> ret(Execution &x)
{
	const u64 target = TRY(x.pop(x.instruction.operand_size));
	x.add(Gpr::rsp, static_cast<s64>(x.dst.value), x.stack_size());
	return x.jump(target);
}

static Outcome<> loop_if(Execution &x, bool condition)
{
	const unsigned width = x.instruction.address_size;
	x.add(Gpr::rcx, -1, width);
	return x.get(Gpr::rcx, width) != 0 && condition ? jmp_relative(x) : Outcome<>{};
}

Outcome<> loop(Execution &x)
{
	return loop_if(x, true);
}

Outcome<> loope(Execution &x)
{
	return loop_if(x, x.rflags & flag::zf);
}

Outcome<> loopne(Execution &x)
{
	return loop_if(x, !(x.rflags & flag::zf));
}

Outcome<> jcxz(Execution &x)
{
	return x.get(Gpr::rcx, x.instruction.address_size) == 0 ? jmp_relative(x) : Outcome<>{};
}

// BOUND: the index is signed and both bounds are inclusive.
Outcome<> bound(Execution &x)
{
	const unsigned size = x.dst.size;
	u8 limits[8];
	TRY(x.read_operand(limits, 2 * size));
	u64 lower = 0, upper = 0;
	__builtin_memcpy(&lower, limits, size);
	__builtin_memcpy(&upper, limits + size, size);
	const s64 index = sign_extend(x.dst.value, size);
	if (index < sign_extend(lower, size) || index > sign_extend(upper, size))
		return x.raise(Exception::plain(Vector::bound_range));
	return {};
}

} // namespace kvmpp::x86::emulator::op
