// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

void Emulator::set_gdt_entry(u16 selector, u64 low, u64 high)
{
	guest.poke(place::gdt + (selector & ~7u), low, 8);
	if (high)
		guest.poke(place::gdt + (selector & ~7u) + 8, high, 8);
}

void Emulator::set_idt_entry(u8 vector, u64 low, u64 high)
{
	const unsigned bytes = guest.efer_value & efer::lma ? 16 : 8;
	guest.poke(place::idt + vector * bytes, low, 8);
	if (bytes == 16)
		guest.poke(place::idt + vector * bytes + 8, high, 8);
}

Segment Emulator::from_gdt(u16 selector) const
{
	const u64 low = guest.peek(place::gdt + (selector & ~7u), 8);
	const u32 raw = static_cast<u32>((low & 0xffff) | (low >> 32 & 0xf0000));
	const AccessRights rights{static_cast<u32>(low >> 40 & 0xf0ff)};
	return {selector, rights.granular() ? raw << 12 | 0xfff : raw,
		(low >> 16 & 0xff'ffff) | (low >> 32 & 0xff00'0000), rights};
}

void Emulator::become(Mode mode, unsigned cpl)
{
	using namespace selector;
	const bool ia32e = mode == Mode::long64;
	if (guest.regions.empty()) {
		guest.add_ram(0, place::end);
		guest.add_device(place::device, page_size);
	}
	guest.forget();
	guest.current_mode = mode;
	guest.efer_value = ia32e ? efer::sce | efer::lme | efer::lma | efer::nx : 0;
	guest.cr[0] = (mode == Mode::real ? 0 : X86_CR0_PE) | (ia32e ? X86_CR0_PG : 0) |
		      X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM;
	guest.cr[4] = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;

	set_gdt_entry(code0, descriptor(0, 0xfffff, 0x9b, 0xc));
	set_gdt_entry(data0, descriptor(0, 0xfffff, 0x93, 0xc));
	set_gdt_entry(code3, descriptor(0, 0xfffff, 0xfb, 0xc));
	set_gdt_entry(data3, descriptor(0, 0xfffff, 0xf3, 0xc));
	set_gdt_entry(code64, descriptor(0, 0xfffff, 0x9b, 0xa));
	set_gdt_entry(code64_3, descriptor(0, 0xfffff, 0xfb, 0xa));
	set_gdt_entry(conforming, descriptor(0, 0xfffff, 0x9f, ia32e ? 0xa : 0xc));
	set_gdt_entry(absent, descriptor(0, 0xfffff, 0x73, 0xc));
	set_gdt_entry(tss, descriptor(place::tss, 0x2067, 0x8b, 0));
	set_gdt_entry(ldt, descriptor(place::ldt, 0xff, 0x82, 0));
	set_gdt_entry(tss2, descriptor(place::tss2, 0x67, 0x89, 0));
	set_gdt_entry(code16, descriptor(0, 0xffff, 0x9b, 0));
	set_gdt_entry(data16, descriptor(0, 0xffff, 0x93, 0));
	set_gdt_entry(execute_only, descriptor(0, 0xfffff, 0x99, 0xc));
	set_gdt_entry(read_only, descriptor(0, 0xfffff, 0xf1, 0xc));
	guest.gdtr = {place::gdt, 0xff};
	guest.idtr = {mode == Mode::real ? place::ivt : place::idt,
		static_cast<u16>(mode == Mode::real ? 0x3ff : 0x7ff)};

	const auto set = [this](SegmentName name, const Segment &segment) {
		guest.segments[static_cast<u8>(name)] = segment;
	};
	const bool is_8086 = mode == Mode::real || mode == Mode::virtual8086;
	for (u8 name = 0; name < 6; ++name)
		guest.segments[name] =
			is_8086 ? Segment{0, 0xffff, 0, {mode == Mode::real ? 0x93u : 0xf3u}}
				: from_gdt(cpl == 3 ? data3 : data0);
	if (!is_8086) {
		const u16 code = ia32e			     ? cpl == 3 ? code64_3 : code64
				 : mode == Mode::protected16 ? code16
				 : cpl == 3		     ? code3
							     : code0;
		set(SegmentName::cs, from_gdt(code));
	}
	if (mode == Mode::protected16)
		set(SegmentName::ss, from_gdt(data16));
	set(SegmentName::tr, from_gdt(tss));
	set(SegmentName::ldtr, from_gdt(ldt));
	guest.current_cpl = mode == Mode::virtual8086 ? 3 : mode == Mode::real ? 0 : cpl;

	for (unsigned i = 0; i < 16; ++i)
		guest.gpr.values[i] = 0x1000 + i;
	guest.gpr[Gpr::rsp] = place::stack;
	guest.rip = place::code;
	guest.rflags = MadeUpGuest::flag_fixed | (mode == Mode::virtual8086 ? X86_EFLAGS_VM : 0);
	// Stacks of level 0 in the TSS.
	if (ia32e) {
		guest.poke(place::tss + 4, place::inner_stack, 8);
	} else {
		guest.poke(place::tss + 4, place::inner_stack, 4);
		guest.poke(place::tss + 8, data0, 2);
	}
}

void Emulator::completes(std::initializer_list<u8> code)
{
	const Outcome<> outcome = guest.run(code);
	ASSERT_TRUE(outcome.has_value())
		<< "stopped: " << static_cast<int>(outcome.error()) << ", vector "
		<< (guest.raised.empty() ? -1 : static_cast<int>(guest.raised[0].vector));
	EXPECT_TRUE(guest.raised.empty());
}

void Emulator::raises(std::initializer_list<u8> code, const Exception &exception)
{
	const Gprs before = guest.gpr;
	const u64 rip = guest.rip, rflags = guest.rflags;
	guest.raised.clear();
	const Outcome<> outcome = guest.run(code);
	ASSERT_FALSE(outcome.has_value());
	EXPECT_EQ(outcome.error(), Stop::exception);
	ASSERT_EQ(guest.raised.size(), 1u);
	EXPECT_EQ(static_cast<int>(guest.raised[0].vector), static_cast<int>(exception.vector));
	EXPECT_EQ(guest.raised[0].has_error_code, exception.has_error_code);
	EXPECT_EQ(guest.raised[0].error_code, exception.error_code);
	EXPECT_EQ(guest.raised[0].address, exception.address);
	EXPECT_EQ(guest.gpr.values, before.values);
	EXPECT_EQ(guest.rip, rip);
	EXPECT_EQ(guest.rflags, rflags);
	guest.raised.clear();
}

} // namespace kvmpp::x86::emulator::test
