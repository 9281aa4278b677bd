// SPDX-License-Identifier: GPL-2.0-only
// SYSCALL, SYSRET, SYSENTER, SYSEXIT: transfers to flat segments that no table describes.
#include "x86/emulator/operations.h"
#include "x86/msr.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

constexpr u32 code64 = 0xa09b, code32 = 0xc09b, data = 0xc093; // DPL 0

Segment flat(u64 selector, u32 rights, unsigned level)
{
	return {static_cast<u16>(selector | level), 0xffff'ffff, 0, {rights | level << 5}};
}

void enter(Execution &x, u64 code_selector, u64 stack_selector, u32 code_rights, unsigned level)
{
	x.guest.set_segment(SegmentName::cs, flat(code_selector & 0xfffc, code_rights, level));
	x.guest.set_segment(SegmentName::ss, flat(stack_selector & 0xfffc, data, level));
}

bool enabled(Execution &x)
{
	return x.guest.efer() & efer::sce;
}

} // namespace

Outcome<> syscall(Execution &x)
{
	if (!enabled(x))
		return x.undefined();
	const u64 star = TRY(x.guest.read_msr(msr::star));
	const u64 target = TRY(x.guest.read_msr(msr::lstar));
	const u64 mask = TRY(x.guest.read_msr(msr::syscall_mask));
	x.gpr[Gpr::rcx] = x.rip;
	x.gpr[Gpr::r11] = x.rflags & ~flag::rf;
	x.rip = target;
	x.rflags = (x.rflags & ~mask) | flag::fixed;
	const u64 selector = star >> 32 & 0xfffc;
	enter(x, selector, selector + 8, code64, 0);
	return {};
}

Outcome<> sysret(Execution &x)
{
	constexpr u64 loaded = 0x3c7fd7; // SDM vol. 2, SYSRET
	if (!enabled(x))
		return x.undefined();
	if (x.cpl() != 0)
		return x.gp();
	const bool to_64bit = x.instruction.operand_size == 8;
	const u64 target = x.get(Gpr::rcx, to_64bit ? 8 : 4);
	if (!x.canonical(target))
		return x.gp();
	const u64 selector = TRY(x.guest.read_msr(msr::star)) >> 48;
	x.rip = target;
	x.rflags = (x.gpr[Gpr::r11] & loaded) | flag::fixed;
	enter(x, selector + (to_64bit ? 16 : 0), selector + 8, to_64bit ? code64 : code32, 3);
	return {};
}

Outcome<> sysenter(Execution &x)
{
	if (x.mode == Mode::real)
		return x.gp();
	const u64 selector = TRY(x.guest.read_msr(msr::sysenter_cs)) & 0xfffc;
	if (selector == 0)
		return x.gp();
	const bool ia32e = x.long_mode_active();
	const u64 mask = value_mask(ia32e ? 8 : 4);
	const u64 target = TRY(x.guest.read_msr(msr::sysenter_eip));
	const u64 stack = TRY(x.guest.read_msr(msr::sysenter_esp));
	x.rip = target & mask;
	x.gpr[Gpr::rsp] = stack & mask;
	x.rflags &= ~(flag::vm | flag::interrupt);
	enter(x, selector, selector + 8, ia32e ? code64 : code32, 0);
	return {};
}

Outcome<> sysexit(Execution &x)
{
	if (x.mode == Mode::real || x.cpl() != 0)
		return x.gp();
	const u64 selector = TRY(x.guest.read_msr(msr::sysenter_cs)) & 0xfffc;
	if (selector == 0)
		return x.gp();
	const bool to_64bit = x.instruction.operand_size == 8;
	const u64 target = x.get(Gpr::rdx, to_64bit ? 8 : 4),
		  stack = x.get(Gpr::rcx, to_64bit ? 8 : 4);
	if (to_64bit && (!x.canonical(target) || !x.canonical(stack)))
		return x.gp();
	x.rip = target;
	x.gpr[Gpr::rsp] = stack;
	if (to_64bit)
		enter(x, selector + 32, selector + 40, code64, 3);
	else
		enter(x, selector + 16, selector + 24, code32, 3);
	return {};
}

} // namespace kvmpp::x86::emulator::op
