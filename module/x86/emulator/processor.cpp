// SPDX-License-Identifier: GPL-2.0-only
// The interrupt flag, halting, caches and translations, calls of the hypervisor.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

enum class InterruptFlag : u8 { real, virtual_, none };

// Which flag CLI and STI mean: SDM vol. 2, table 3-7 (CLI).
InterruptFlag interrupt_flag(Execution &x)
{
	if (x.mode == Mode::real || x.cpl() <= x.iopl())
		return InterruptFlag::real;
	const u64 extension = x.mode == Mode::virtual8086 ? X86_CR4_VME : X86_CR4_PVI;
	if (x.cpl() == 3 && !x.long_mode() && x.guest.control(4) & extension)
		return InterruptFlag::virtual_;
	return InterruptFlag::none;
}

// A line of memory that an instruction names without taking anything from it.
Outcome<> touch(Execution &x, SegmentName segment, u64 offset)
{
	const Gva where = TRY(x.linear(segment, offset, 1, Access::read, 0));
	return x.guest.probe(where, 1, Access::read);
}

} // namespace

Outcome<> cli(Execution &x)
{
	switch (interrupt_flag(x)) {
	case InterruptFlag::real: x.rflags &= ~flag::interrupt; return {};
	case InterruptFlag::virtual_: x.rflags &= ~flag::vif; return {};
	case InterruptFlag::none: break;
	}
	return x.gp();
}

Outcome<> sti(Execution &x)
{
	const InterruptFlag which = interrupt_flag(x);
	if (which == InterruptFlag::none ||
		(which == InterruptFlag::virtual_ && x.rflags & flag::vip))
		return x.gp();
	if (which == InterruptFlag::virtual_) {
		x.rflags |= flag::vif;
		return {};
	}
	if (!(x.rflags & flag::interrupt))
		x.guest.block_interrupts(false);
	x.rflags |= flag::interrupt;
	return {};
}

Outcome<> hlt(Execution &x)
{
	x.guest.halt();
	return {};
}

// MONITOR and MWAIT do nothing else here: the guest looks again at what it waits for.
Outcome<> monitor(Execution &x)
{
	if (static_cast<u32>(x.gpr[Gpr::rcx]))
		return x.gp();
	return touch(x, x.instruction.data_segment, x.get(Gpr::rax, x.instruction.address_size));
}

Outcome<> mwait(Execution &x)
{
	if (static_cast<u32>(x.gpr[Gpr::rcx]))
		return x.gp();
	return {};
}

// A non-canonical address does nothing (SDM vol. 2, INVLPG).
Outcome<> invlpg(Execution &x)
{
	u64 linear = x.address;
	const SegmentName name = x.instruction.address.segment;
	if (!x.long_mode())
		linear = (linear + x.guest.segment(name).base) & 0xffff'ffff;
	else if (name >= SegmentName::fs)
		linear += x.guest.segment(name).base;
	if (x.canonical(linear))
		x.guest.invalidate_page(Gva{linear});
	return {};
}

Outcome<> wbinvd(Execution &x)
{
	x.guest.write_back_caches();
	return {};
}

Outcome<> flush_line(Execution &x)
{
	return touch(x, x.instruction.address.segment, x.address);
}

Outcome<> hypercall(Execution &x)
{
	x.registers.gpr = x.gpr;
	TRY(x.guest.hypercall());
	x.gpr = x.registers.gpr;
	return {};
}

Outcome<> rsm(Execution &x)
{
	if (!x.guest.resume(x.registers))
		return x.undefined();
	x.gpr = x.registers.gpr;
	x.rip = x.registers.rip;
	x.rflags = x.registers.rflags;
	x.keep_rf = true;
	return {};
}

} // namespace kvmpp::x86::emulator::op
