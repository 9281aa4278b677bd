// SPDX-License-Identifier: GPL-2.0-only
// The emulator against the processor in virtual-8086 mode: what is sensitive to IOPL, with and
// without CR4.VME, and the ways in and out. SDM vol. 3, ch. 20.
#include "scene.h"

using namespace kvmpp::selftests;

namespace
{

constexpr unsigned states_per_form = 16;
constexpr u64 cr4_vme = 1 << 0;
constexpr u16 segment = 0x1080; // all but CS, whose base is 0; CS and IP name `landing` alike
constexpr u8 interrupt_vector = 0x50;

struct Form {
	u8 first, last;
	u8 escape = 0;
	enum Tail : u8 { none, vector, port, modrm_memory, modrm_register, far } tail = none;
	u8 reg = 0xff; // the one value of ModRM.reg
};

constexpr Form forms[] = {
	{0xfa, 0xfb}, // CLI, STI
	{0x9c, 0x9d}, // PUSHF, POPF
	{0xcd, 0xcd, 0, Form::vector},
	{0xcc, 0xcc},
	{0xce, 0xce},
	{0xcf, 0xcf},
	{0xcb, 0xcb},
	{0x9a, 0x9a, 0, Form::far},
	{0xea, 0xea, 0, Form::far},
	{0xf4, 0xf4},
	{0xe4, 0xe7, 0, Form::port},
	{0xec, 0xef},
	{0x6c, 0x6f},
	{0x06, 0x07},
	{0x0e, 0x0e},
	{0x16, 0x17},
	{0x1e, 0x1f},
	{0xa0, 0xa1, 0x0f},
	{0xa8, 0xa9, 0x0f},
	{0x8c, 0x8c, 0, Form::modrm_register, 0},
	{0x8c, 0x8c, 0, Form::modrm_memory, 3},
	{0x8e, 0x8e, 0, Form::modrm_register, 0},
	{0x8e, 0x8e, 0, Form::modrm_memory, 2},
	{0x8e, 0x8e, 0, Form::modrm_memory, 4},
	{0xc4, 0xc5, 0, Form::modrm_memory},
	{0x63, 0x63, 0, Form::modrm_register},
	{0x00, 0x00, 0x0f, Form::modrm_register},
	{0x01, 0x01, 0x0f, Form::modrm_memory, 0},
	{0x01, 0x01, 0x0f, Form::modrm_memory, 2},
	{0x01, 0x01, 0x0f, Form::modrm_register, 4},
	{0x01, 0x01, 0x0f, Form::modrm_register, 6},
	{0x01, 0x01, 0x0f, Form::modrm_memory, 7},
	{0x02, 0x03, 0x0f, Form::modrm_register},
	{0x06, 0x06, 0x0f},
	{0x08, 0x09, 0x0f},
	{0x0b, 0x0b, 0x0f},
	{0x20, 0x20, 0x0f, Form::modrm_register, 0},
	{0x21, 0x21, 0x0f, Form::modrm_register, 7},
	{0x22, 0x22, 0x0f, Form::modrm_register, 3},
	{0x30, 0x30, 0x0f},
	{0x32, 0x32, 0x0f},
	{0x34, 0x35, 0x0f},
	{0xb2, 0xb2, 0x0f, Form::modrm_memory},
};

// Segments as virtual-8086 mode has them (SDM vol. 3, 27.3.1.2).
kvm_segment segment_8086(u16 selector)
{
	kvm_segment one{};
	one.selector = selector;
	one.base = u64{selector} << 4;
	one.limit = 0xffff;
	one.type = descriptor::data;
	one.s = 1;
	one.dpl = 3;
	one.present = 1;
	return one;
}

// Not VIF and VIP at once: Bochs raises #GP before any instruction then, of which the SDM says
// nothing.
u64 any_flags_8086(Scene &scene)
{
	return scene.any_flags() | scene.random.any_of<u64>({0, flag::vif, flag::vip});
}

// The interrupt vectors of the 8086 program itself; the bytes below are nobody else's.
void fill_vectors(Scene &scene)
{
	for (u32 vector = 0; vector < 256; ++vector)
		scene.value<u32>(4 * vector) = static_cast<u32>(place::landing + vector);
}

void begin(Scene &scene, bool vme)
{
	scene.begin(3);
	State &state = scene.state;
	kvm_sregs &sregs = state.sregs;
	if (vme)
		sregs.cr4 |= cr4_vme;
	sregs.cs = segment_8086(0);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment_8086(segment);
	for (__u64 *gpr = &state.regs.rax; gpr <= &state.regs.r15; ++gpr)
		*gpr &= scene.random.one_in(16) ? 0xffff'ffff : 0xfff;
	state.regs.rdx &= 0x1ff;
	state.regs.rsp = 0x800 + scene.random.below(0x40) * 2;
	if (scene.random.one_in(16))
		state.regs.rsp = scene.random.any_of<u64>({0xffff, 0, 1, 2});
	state.regs.rflags = any_flags_8086(scene) | flag::vm;
	// The stack of the handlers, level 0 of which virtual-8086 mode demands.
	scene.value<u32>(at::tss + 4) = place::inner_stack;
	scene.value<u16>(at::tss + 8) =
		scene.random.one_in(12) ? scene.any_selector() : selector::data;
}

// What the stack holds for the returns and POPs: IP, CS, FLAGS. IRET takes an EIP beyond the limit
// in Bochs, where the SDM (vol. 2, IRET) has #GP.
void fill_stack(Scene &scene, const Form &form, unsigned size)
{
	u64 frame[3] = {place::landing, 0, any_flags_8086(scene)};
	if (form.first != 0xcf && form.first != 0xcb)
		frame[0] = frame[2];
	if (form.first == 0xcb && size == 4 && scene.random.one_in(6))
		frame[0] |= 0x10000;
	scene.poke(u64{segment} * 16 + scene.state.regs.rsp, frame, 3, size);
}

Instruction encode(Scene &scene, const Form &form)
{
	Random &random = scene.random;
	Instruction code;
	unsigned size = 2;
	if (random.one_in(3))
		code.put(0x66), size = 4;
	fill_stack(scene, form, size);
	if (form.escape)
		code.put(form.escape);
	code.put(form.first + random.below(form.last - form.first + 1u));
	const u64 reg = form.reg == 0xff ? random.below(8) : form.reg;
	switch (form.tail) {
	case Form::none: break;
	case Form::vector: code.put(random.below(2) ? interrupt_vector : random.below(256)); break;
	case Form::port: code.put(random.next()); break;
	case Form::modrm_memory: // at an address of its own
		code.put(reg << 3 | 6);
		code.put(random.one_in(8) ? 0xffff : random.below(0x400), 2);
		break;
	case Form::modrm_register: code.put(0xc0 | reg << 3 | random.below(8)); break;
	case Form::far:
		code.put(place::landing + (size == 4 && random.one_in(6) ? 0x10000 : 0), size);
		code.put(random.below(2) ? 0 : 0x10, 2);
		break;
	}
	return code;
}

void compare(bool vme)
{
	Scene scene{Mode::protected_mode, vme ? 81u : 80u};
	fill_vectors(scene);
	unsigned count = 0;
	for (const Form &form : forms) {
		count += form.last - form.first + 1u;
		unsigned different = 0;
		for (unsigned n = 0; n < states_per_form && different < 2 && !scene.hopeless();
			++n) {
			begin(scene, vme);
			scene.set_code(encode(scene, form));
			different += !scene.alike(scene.state);
		}
	}
	scene.summarize(count, "forms");
}

} // namespace

TEST(virtual_8086_mode_in_software)
{
	compare(false);
}

TEST(virtual_interrupts_in_software)
{
	compare(true);
}

// Out by an interrupt through a random gate, whose handler returns if it came to level 0.
TEST(virtual_8086_interrupts_in_software)
{
	Scene scene{Mode::protected_mode, 82};
	fill_vectors(scene);
	unsigned different = 0;
	for (unsigned n = 0; n < 300 && different < 4; ++n) {
		begin(scene, n & 1);
		scene.state.regs.rflags |= flag::iopl;
		Instruction code;
		code.put(0xcd), code.put(interrupt_vector);
		const u8 type = scene.random.any_of<u8>(
			{descriptor::interrupt_gate, descriptor::trap_gate, 6, 7});
		scene.set_gate(interrupt_vector, scene.any_gate(type));
		scene.set_code(code);
		different += !scene.alike(scene.state);
	}
	scene.summarize(1, "form");
}

// In by IRET from level 0, with whatever flags. Of EIP Bochs takes 16 bits.
TEST(virtual_8086_entry_in_software)
{
	Scene scene{Mode::protected_mode, 83};
	fill_vectors(scene);
	unsigned different = 0;
	for (unsigned n = 0; n < 300 && different < 4; ++n) {
		scene.begin(0);
		scene.state.regs.rsp = place::stack;
		if (n & 1)
			scene.state.sregs.cr4 |= cr4_vme;
		scene.state.regs.rflags &= ~flag::nt;
		u64 frame[9] = {place::landing, 0, any_flags_8086(scene) | flag::vm,
			scene.random.next() & 0x1'ffff};
		for (u64 &one : frame)
			if (&one > frame + 3)
				one = scene.random.next();
		if (scene.random.one_in(8))
			frame[1] = 0x20;
		scene.poke(place::stack, frame, 9, 4);
		Instruction code;
		code.put(0xcf);
		scene.set_code(code);
		different += !scene.alike(scene.state);
	}
	scene.summarize(1, "form");
}
