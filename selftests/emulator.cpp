// SPDX-License-Identifier: GPL-2.0-only
// The emulator against the processor where userspace cannot compare them: two guests of the same
// state, one of which runs in software alone (the module's parameter force_emulation), execute the
// same instruction of 16-bit, 32-bit or privileged code, and must come out alike.
#include "twins.h"

using namespace kvmpp::selftests;

namespace
{

using flag::af, flag::cf, flag::of, flag::pf, flag::sf, flag::status, flag::zf;

constexpr u64 landing = 0x1200; // where returns go: a HLT, as all around; without the bit of TF
constexpr u64 shifted = af | of | cf, multiplied = sf | zf | af | pf, bit_test = of | sf | af | pf;
constexpr unsigned states_per_form = 48;

enum Modes : u8 { in_real = 1, in_protected = 2, in_both = 3 };
enum Tail : u8 { none, byte, word, full, address, far };

// Opcodes from `first` to `last` behind `escape`, alike but for that.
struct Form {
	u8 escape, first, last;
	bool modrm = false;
	u8 extensions = 0xff; // values of ModRM.reg, one bit each
	Tail tail = none;
	u64 undefined = 0;
	Modes modes = in_both;
	bool memory_only = false, repeats = false;
};

constexpr Form forms[] = {
	{0, 0x00, 0x03, true},
	{0, 0x04, 0x04, false, 0xff, byte},
	{0, 0x05, 0x05, false, 0xff, full},
	{0, 0x08, 0x0b, true, 0xff, none, af},
	{0, 0x10, 0x13, true},
	{0, 0x18, 0x1b, true},
	{0, 0x20, 0x23, true, 0xff, none, af},
	{0, 0x28, 0x2b, true},
	{0, 0x30, 0x33, true, 0xff, none, af},
	{0, 0x38, 0x3b, true},
	{0, 0x15, 0x15, false, 0xff, full},
	{0, 0x1d, 0x1d, false, 0xff, full},
	{0, 0x06, 0x07, false, 0xff, none, 0, in_real},
	{0, 0x0e, 0x0e},
	{0, 0x1e, 0x1e},
	{0, 0x16, 0x16},
	{0, 0x1f, 0x1f, false, 0xff, none, 0, in_real},
	{0, 0x27, 0x27, false, 0xff, none, of},
	{0, 0x2f, 0x2f, false, 0xff, none, of},
	{0, 0x37, 0x37, false, 0xff, none, of | sf | zf | pf},
	{0, 0x3f, 0x3f, false, 0xff, none, of | sf | zf | pf},
	{0, 0x40, 0x5f},
	{0, 0x60, 0x61},
	{0, 0x62, 0x62, true, 0xff, none, 0, in_both, true},
	{0, 0x63, 0x63, true, 0xff, none, 0, in_protected},
	{0, 0x68, 0x68, false, 0xff, full},
	{0, 0x6a, 0x6a, false, 0xff, byte},
	{0, 0x69, 0x69, true, 0xff, full, multiplied},
	{0, 0x6b, 0x6b, true, 0xff, byte, multiplied},
	{0, 0x70, 0x7f, false, 0xff, byte},
	{0, 0x80, 0x80, true, 0xff, byte, af},
	{0, 0x81, 0x81, true, 0xff, full, af},
	{0, 0x83, 0x83, true, 0xff, byte, af},
	{0, 0x84, 0x85, true, 0xff, none, af},
	{0, 0x86, 0x8b, true},
	{0, 0x8c, 0x8c, true, 0x3f},
	{0, 0x8d, 0x8d, true, 0xff, none, 0, in_both, true},
	{0, 0x8e, 0x8e, true, 0x09, none, 0, in_real},
	{0, 0x8f, 0x8f, true, 0x01},
	{0, 0x90, 0x99},
	{0, 0x9c, 0x9f},
	{0, 0xa0, 0xa3, false, 0xff, address},
	{0, 0xa4, 0xa7, false, 0xff, none, 0, in_both, false, true},
	{0, 0xaa, 0xaf, false, 0xff, none, 0, in_both, false, true},
	{0, 0xa8, 0xa8, false, 0xff, byte, af},
	{0, 0xa9, 0xa9, false, 0xff, full, af},
	{0, 0xb0, 0xb7, false, 0xff, byte},
	{0, 0xb8, 0xbf, false, 0xff, full},
	{0, 0xc0, 0xc1, true, 0xff, byte, shifted},
	{0, 0xd0, 0xd3, true, 0xff, none, shifted},
	{0, 0xc2, 0xc2, false, 0xff, word},
	{0, 0xc3, 0xc3},
	{0, 0xca, 0xca, false, 0xff, word},
	{0, 0xcb, 0xcb},
	{0, 0xcf, 0xcf},
	{0, 0xc4, 0xc5, true, 0xff, none, 0, in_real, true},
	{0, 0xc6, 0xc6, true, 0x01, byte},
	{0, 0xc7, 0xc7, true, 0x01, full},
	{0, 0xc9, 0xc9},
	{0, 0xcd, 0xcd, false, 0xff, byte},
	{0, 0xce, 0xce},
	{0, 0xd4, 0xd5, false, 0xff, byte, of | af | cf},
	{0, 0xd7, 0xd7},
	{0, 0xe0, 0xe3, false, 0xff, byte},
	{0, 0xeb, 0xeb, false, 0xff, byte},
	{0, 0x9a, 0x9a, false, 0xff, far},
	{0, 0xea, 0xea, false, 0xff, far},
	{0, 0xf5, 0xf5},
	{0, 0xf8, 0xfd},
	{0, 0xf6, 0xf6, true, 0x03, byte, af},
	{0, 0xf6, 0xf7, true, 0x0c},
	{0, 0xf7, 0xf7, true, 0x03, full, af},
	{0, 0xf6, 0xf7, true, 0x30, none, multiplied},
	{0, 0xf6, 0xf7, true, 0xc0, none, status},
	{0, 0xfe, 0xfe, true, 0x03},
	{0, 0xff, 0xff, true, 0x43},
	{0x0f, 0x00, 0x00, true, 0x03, none, 0, in_protected},
	{0x0f, 0x00, 0x00, true, 0x30, none, 0, in_protected},
	{0x0f, 0x01, 0x01, true, 0x03, none, 0, in_both, true},
	{0x0f, 0x01, 0x01, true, 0x10},
	{0x0f, 0x02, 0x03, true, 0xff, none, 0, in_protected},
	{0x0f, 0x06, 0x06},
	{0x0f, 0x0b, 0x0b},
	{0x0f, 0x20, 0x20, true, 0x01},
	{0x0f, 0x21, 0x21, true, 0x0f},
	{0x0f, 0x40, 0x4f, true},
	{0x0f, 0x90, 0x9f, true},
	{0x0f, 0xa0, 0xa0},
	{0x0f, 0xa8, 0xa8},
	{0x0f, 0xa3, 0xa3, true, 0xff, none, bit_test},
	{0x0f, 0xab, 0xab, true, 0xff, none, bit_test},
	{0x0f, 0xb3, 0xb3, true, 0xff, none, bit_test},
	{0x0f, 0xbb, 0xbb, true, 0xff, none, bit_test},
	{0x0f, 0xba, 0xba, true, 0xf0, byte, bit_test},
	{0x0f, 0xaf, 0xaf, true, 0xff, none, multiplied},
	{0x0f, 0xb0, 0xb1, true},
	{0x0f, 0xb2, 0xb2, true, 0xff, none, 0, in_real, true},
	{0x0f, 0xb4, 0xb5, true, 0xff, none, 0, in_real, true},
	{0x0f, 0xb6, 0xb7, true},
	{0x0f, 0xbe, 0xbf, true},
	{0x0f, 0xbc, 0xbd, true, 0xff, none, status & ~zf},
	{0x0f, 0xc0, 0xc1, true},
	{0x0f, 0xc7, 0xc7, true, 0x02, none, 0, in_both, true},
};

Instruction make(const Form &form, Mode mode, Random &random)
{
	Instruction code;
	const bool wide = mode == Mode::protected_mode;
	bool operand32 = wide, address32 = wide;
	const u64 opcode = form.first + random.below(form.last - form.first + 1u);
	// Returns and far transfers find what they want on the stack in the mode's own size only.
	const bool plain = (opcode >= 0xc2 && opcode <= 0xcf && !form.modrm && !form.escape) ||
			   form.tail == far;
	if (!plain && random.below(4) == 0)
		operand32 = !operand32, code.put(0x66);
	if (random.below(4) == 0)
		address32 = !address32, code.put(0x67);
	if (form.repeats && random.below(2))
		code.put(0xf2 + random.below(2));
	if (form.escape)
		code.put(form.escape);
	code.put(opcode);
	if (form.modrm) {
		u64 reg = random.below(8);
		while (!(form.extensions >> reg & 1))
			reg = random.below(8);
		// Not the forms with an absolute address of 32 bits, which is seldom one of memory.
		// With control and debug registers ModRM.mod says nothing.
		const bool no_memory = form.escape && form.first >= 0x20 && form.last <= 0x23;
		const u64 mod = !no_memory && (form.memory_only || random.below(2)) ? 1 : 3;
		const u64 rm = random.below(8);
		code.put(mod << 6 | reg << 3 | rm);
		if (mod == 1 && rm == 4 && address32)
			code.put(random.below(256));
		if (mod == 1)
			code.put(random.below(128));
	}
	switch (form.tail) {
	case none: break;
	case byte:
		code.put(form.escape || form.modrm ? random.below(256) : random.below(128));
		break;
	case word: code.put(random.below(64), 2); break;
	case full: code.put(random.next() << 13 ^ random.next(), operand32 ? 4 : 2); break;
	case address: code.put(0x9000 + random.below(0x1000), address32 ? 4 : 2); break;
	case far:
		code.put(landing, operand32 ? 4 : 2);
		code.put(wide ? u64{selector::code32} : 0, 2);
		break;
	}
	return code;
}

// Memory as every state finds it: HLT where code and handlers may lead, tables, and even bytes,
// none of which sets RFLAGS.TF.
void fill(Twins &twins, Mode mode)
{
	Random random{99};
	u8 gdt[0x80];
	memcpy(gdt, twins.image + at::gdt, sizeof gdt);
	for (u8 &byte : twins.image)
		byte = static_cast<u8>(random.next() & 0xfe);
	memcpy(twins.image + at::gdt, gdt, sizeof gdt);
	memset(twins.image + at::code, 0xf4, 0x3000);
	for (u32 vector = 0; vector < 256; ++vector) {
		const u32 handler = at::handlers + vector;
		if (mode == Mode::real)
			twins.value<u32>(4 * vector) = handler;
		else
			twins.value<u64>(at::idt + 8 * vector) =
				handler | u64{selector::code32} << 16 | 0x8e00ull << 32;
	}
}

void poke_return(Twins &twins, u64 stack, Mode mode)
{
	const u32 size = mode == Mode::real ? 2 : 4;
	const u32 values[] = {landing, mode == Mode::real ? 0u : u32{selector::code32}, 0x202};
	for (u32 i = 0; i < 3; ++i)
		memcpy(twins.image + stack + i * size, &values[i], size);
}

void compare(Mode mode)
{
	Twins twins{mode};
	fill(twins, mode);
	Random random{mode == Mode::real ? 1u : 2u};
	unsigned count = 0;
	for (const Form &form : forms) {
		if (!(form.modes & (mode == Mode::real ? in_real : in_protected)))
			continue;
		count += form.last - form.first + 1u;
		for (unsigned n = 0; n < states_per_form && !twins.hopeless(); ++n) {
			const Instruction code = make(form, mode, random);
			State state = twins.start;
			kvm_regs &regs = state.regs;
			__u64 *const gprs[] = {&regs.rax, &regs.rbx, &regs.rcx, &regs.rdx,
				&regs.rsi, &regs.rdi, &regs.rbp};
			for (__u64 *gpr : gprs)
				*gpr = random.below(8) ? 0x9000 + random.below(0x1000)
						       : random.next() & 0xffff'ffff;
			if (form.repeats)
				regs.rcx = random.below(40);
			regs.rsp = 0xd000 + random.below(0x1000);
			regs.rip = at::code;
			regs.rflags = (random.next() & (status | flag::df)) | flag::fixed;
			poke_return(twins, regs.rsp, mode);
			twins.set_code(code);
			twins.alike(state, form.undefined);
		}
	}
	twins.summarize(count, "opcodes");
}

} // namespace

TEST(real_mode_in_software)
{
	compare(Mode::real);
}

TEST(protected_mode_in_software)
{
	compare(Mode::protected_mode);
}
