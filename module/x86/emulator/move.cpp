// SPDX-License-Identifier: GPL-2.0-only
// Moves, extensions, conditional moves, and single flags.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

Outcome<> undefined(Execution &x)
{
	return x.undefined();
}

Outcome<> unknown(Execution &)
{
	return std::unexpected{Stop::unknown};
}

Outcome<> nop(Execution &)
{
	return {};
}

Outcome<> mov(Execution &x)
{
	x.dst.value = x.src.value;
	return {};
}

Outcome<> movzx(Execution &x)
{
	x.dst.value = x.src.value;
	return {};
}

Outcome<> movsx(Execution &x)
{
	x.dst.value = static_cast<u64>(sign_extend(x.src.value, x.src.size));
	return {};
}

Outcome<> lea(Execution &x)
{
	x.dst.value = x.address;
	return {};
}

// The source is read and a 4-byte destination zero-extended whether or not the condition holds.
Outcome<> cmovcc(Execution &x)
{
	if (condition_holds(x.instruction.opcode, x.rflags))
		x.dst.value = x.src.value;
	return {};
}

Outcome<> setcc(Execution &x)
{
	x.dst.value = condition_holds(x.instruction.opcode, x.rflags);
	return {};
}

// CBW, CWDE, CDQE.
Outcome<> cbw(Execution &x)
{
	const unsigned half = x.dst.size / 2;
	x.dst.value = static_cast<u64>(sign_extend(x.dst.value & value_mask(half), half));
	return {};
}

// CWD, CDQ, CQO.
Outcome<> cwd(Execution &x)
{
	x.set(Gpr::rdx, x.dst.value & sign_bit(x.dst.size) ? ~u64{0} : 0, x.dst.size);
	return {};
}

Outcome<> xlat(Execution &x)
{
	const u64 offset =
		(x.gpr[Gpr::rbx] + x.get(Gpr::rax, 1)) & value_mask(x.instruction.address_size);
	const u64 value = TRY(x.read_value(x.instruction.data_segment, offset, 1));
	x.set(Gpr::rax, value, 1);
	return {};
}

Outcome<> salc(Execution &x)
{
	x.dst.value = x.rflags & flag::cf ? 0xff : 0;
	return {};
}

// --- flags
// ----------------------------------------------------------------------------------------

Outcome<> sahf(Execution &x)
{
	x.set_flags(x.get(Gpr::rax, 2) >> 8, flag::status & ~flag::of);
	return {};
}

Outcome<> lahf(Execution &x)
{
	const u64 ah = (x.rflags & (flag::status & ~flag::of)) | flag::fixed;
	x.set(Gpr::rax, x.get(Gpr::rax, 1) | ah << 8, 2);
	return {};
}

Outcome<> cmc(Execution &x)
{
	x.rflags ^= flag::cf;
	return {};
}

Outcome<> clc(Execution &x)
{
	x.rflags &= ~flag::cf;
	return {};
}

Outcome<> stc(Execution &x)
{
	x.rflags |= flag::cf;
	return {};
}

Outcome<> cld(Execution &x)
{
	x.rflags &= ~flag::df;
	return {};
}

Outcome<> std_(Execution &x)
{
	x.rflags |= flag::df;
	return {};
}

Outcome<> clac(Execution &x)
{
	x.rflags &= ~flag::ac;
	return {};
}

Outcome<> stac(Execution &x)
{
	x.rflags |= flag::ac;
	return {};
}

} // namespace kvmpp::x86::emulator::op
