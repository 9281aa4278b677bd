// SPDX-License-Identifier: GPL-2.0-only
// The emulator against the processor in 64-bit mode: what operating systems use, at privilege
// levels 0 and 3.
#include "scene.h"

using namespace kvmpp::selftests;

namespace
{

constexpr unsigned states_per_form = 10;

enum class ModRm : u8 { none, reg, mem, any };

// What registers and the memory operand hold.
enum class Content : u8 {
	junk,
	selectors,
	pointer, // a selector behind an offset
	table,	 // of LGDT and LIDT
	cr0,
	cr3,
	cr4,
	cr8,
	debug,
	msr,
	addresses,
	far_frame,
	interrupt_frame,
	system_call,
	port,
	leaf,
	xcr,
	time, // which only a refusal makes comparable
};

struct Form {
	u8 prefix, escape, opcode;
	ModRm modrm = ModRm::none;
	u8 extensions = 0xff; // values of ModRM.reg, one bit each
	Content content = Content::junk;
	unsigned immediate = 0; // its size
	int rm = -1; // the one value of ModRM.rm; then what prefixes do is not documented

	bool rex_r_differs() const
	{
		return escape ? opcode == 0x21 || opcode == 0x23 : opcode == 0x8c || opcode == 0x8e;
	}
};

constexpr Form forms[] = {
	{0, 0x0f, 0x00, ModRm::any, 0x03},
	{0, 0x0f, 0x00, ModRm::any, 0x3c, Content::selectors},
	{0, 0x0f, 0x00, ModRm::any, 0xc0},
	{0, 0x0f, 0x01, ModRm::mem, 0x03},
	{0, 0x0f, 0x01, ModRm::mem, 0x0c, Content::table},
	{0, 0x0f, 0x01, ModRm::any, 0x10},
	{0, 0x0f, 0x01, ModRm::any, 0x40},
	{0, 0x0f, 0x01, ModRm::mem, 0x80, Content::addresses},
	{0, 0x0f, 0x01, ModRm::reg, 0x01, Content::junk, 0, 1}, // VMCALL
	{0, 0x0f, 0x01, ModRm::reg, 0x01, Content::junk, 0, 2}, // VMLAUNCH
	{0, 0x0f, 0x01, ModRm::reg, 0x01, Content::junk, 0, 3}, // VMRESUME
	{0, 0x0f, 0x01, ModRm::reg, 0x01, Content::junk, 0, 4}, // VMXOFF
	{0, 0x0f, 0x01, ModRm::reg, 0x02, Content::junk, 0, 2}, // CLAC
	{0, 0x0f, 0x01, ModRm::reg, 0x02, Content::junk, 0, 3}, // STAC
	{0, 0x0f, 0x01, ModRm::reg, 0x04, Content::xcr, 0, 0},	// XGETBV
	{0, 0x0f, 0x01, ModRm::reg, 0x04, Content::xcr, 0, 1},	// XSETBV
	{0, 0x0f, 0x01, ModRm::reg, 0x80, Content::junk, 0, 0}, // SWAPGS
	{0, 0x0f, 0x01, ModRm::reg, 0x80, Content::time, 0, 1}, // RDTSCP
	{0, 0x0f, 0x02, ModRm::any, 0xff, Content::selectors},
	{0, 0x0f, 0x03, ModRm::any, 0xff, Content::selectors},
	{0, 0x0f, 0x05, ModRm::none, 0, Content::system_call},
	{0, 0x0f, 0x06},
	{0, 0x0f, 0x07, ModRm::none, 0, Content::system_call},
	{0, 0x0f, 0x08},
	{0, 0x0f, 0x09},
	{0, 0x0f, 0x0b},
	{0, 0x0f, 0x20, ModRm::reg},
	{0, 0x0f, 0x21, ModRm::reg},
	{0, 0x0f, 0x22, ModRm::reg, 0x01, Content::cr0},
	{0, 0x0f, 0x22, ModRm::reg, 0x08, Content::cr3},
	{0, 0x0f, 0x22, ModRm::reg, 0x10, Content::cr4},
	{0, 0x0f, 0x22, ModRm::reg, 0x01, Content::cr8},
	{0, 0x0f, 0x22, ModRm::reg, 0xe6},
	{0, 0x0f, 0x23, ModRm::reg, 0xff, Content::debug},
	{0, 0x0f, 0x30, ModRm::none, 0, Content::msr},
	{0, 0x0f, 0x32, ModRm::none, 0, Content::msr},
	{0, 0x0f, 0x31, ModRm::none, 0, Content::time},
	{0, 0x0f, 0x33},
	{0, 0x0f, 0x34, ModRm::none, 0, Content::system_call},
	{0, 0x0f, 0x35, ModRm::none, 0, Content::system_call},
	{0, 0x0f, 0x37},
	{0, 0x0f, 0x78, ModRm::reg},
	{0, 0x0f, 0x79, ModRm::reg},
	{0, 0x0f, 0xa0},
	{0, 0x0f, 0xa1, ModRm::none, 0, Content::far_frame},
	{0, 0x0f, 0xa2, ModRm::none, 0, Content::leaf},
	{0, 0x0f, 0xa8},
	{0, 0x0f, 0xa9, ModRm::none, 0, Content::far_frame},
	{0, 0x0f, 0xaa},
	{0xf3, 0x0f, 0xae, ModRm::reg, 0x0f, Content::addresses}, // RDFSBASE to WRGSBASE
	{0, 0x0f, 0xb2, ModRm::mem, 0xff, Content::pointer},
	{0, 0x0f, 0xb4, ModRm::mem, 0xff, Content::pointer},
	{0, 0x0f, 0xb5, ModRm::mem, 0xff, Content::pointer},
	{0, 0x0f, 0xc7, ModRm::mem, 0xc0}, // VMPTRLD and kin
	{0, 0, 0x8c, ModRm::any, 0x3f},
	{0, 0, 0x8e, ModRm::any, 0x3f, Content::selectors},
	{0, 0, 0xff, ModRm::mem, 0x08, Content::pointer},
	{0, 0, 0xff, ModRm::mem, 0x20, Content::pointer},
	{0, 0, 0xca, ModRm::none, 0, Content::far_frame, 2},
	{0, 0, 0xcb, ModRm::none, 0, Content::far_frame},
	{0, 0, 0xcf, ModRm::none, 0, Content::interrupt_frame},
	{0, 0, 0xcc},
	{0, 0, 0xcd, ModRm::none, 0, Content::junk, 1},
	{0, 0, 0xf1},
	{0, 0, 0xf4},
	{0, 0, 0xfa},
	{0, 0, 0xfb},
	{0, 0, 0x9c},
	{0, 0, 0x9d, ModRm::none, 0, Content::interrupt_frame},
	{0, 0, 0xe4, ModRm::none, 0, Content::port, 1},
	{0, 0, 0xe5, ModRm::none, 0, Content::port, 1},
	{0, 0, 0xe6, ModRm::none, 0, Content::port, 1},
	{0, 0, 0xe7, ModRm::none, 0, Content::port, 1},
	{0, 0, 0xec, ModRm::none, 0, Content::port},
	{0, 0, 0xed, ModRm::none, 0, Content::port},
	{0, 0, 0xee, ModRm::none, 0, Content::port},
	{0, 0, 0xef, ModRm::none, 0, Content::port},
	{0, 0, 0x6c, ModRm::none, 0, Content::port},
	{0, 0, 0x6d, ModRm::none, 0, Content::port},
	{0, 0, 0x6e, ModRm::none, 0, Content::port},
	{0, 0, 0x6f, ModRm::none, 0, Content::port},
	// What 64-bit mode has no more.
	{0, 0, 0x06},
	{0, 0, 0x07},
	{0, 0, 0x0e},
	{0, 0, 0x17},
	{0, 0, 0x1f},
	{0, 0, 0x27},
	{0, 0, 0x2f},
	{0, 0, 0x37},
	{0, 0, 0x3f},
	{0, 0, 0x60},
	{0, 0, 0x61},
	{0, 0, 0x9a},
	{0, 0, 0xce},
	{0, 0, 0xd4},
	{0, 0, 0xd5},
	{0, 0, 0xea},
};

struct Maker {
	Scene &scene;
	const Form &form;
	unsigned cpl;
	unsigned size = 4; // of the operand
	Instruction code{};

	Random &random() { return scene.random; }
	kvm_regs &regs() { return scene.state.regs; }
	kvm_sregs &sregs() { return scene.state.sregs; }

	template <typename F>
	void for_each_gpr(F value)
	{
		for (__u64 *gpr = &regs().rax; gpr <= &regs().r15; ++gpr)
			if (gpr != &regs().rsp)
				*gpr = value();
	}

	// Which part is read first is up to the processor, and a page fault would tell.
	bool two_parts() const
	{
		return form.content == Content::table || form.content == Content::pointer;
	}
	void encode();
	void fill();
	void fill_memory(u64 address);
	void system_calls();
	void msrs();
	void spare_bochs(u64 (&frame)[5]);
};

// A memory operand is at an address of its own, or where RBX, RBP or RSI says.
void Maker::encode()
{
	u8 rex = random().below(3) ? 0 : static_cast<u8>(0x40 | random().below(8));
	if (form.content == Content::cr8)
		rex |= 0x44;
	// Bochs has no segment registers there, where the SDM ignores REX.R (vol. 2, 2.2.1.2), and
	// MOV of debug registers exits before it is undefined.
	else if ((form.content >= Content::cr0 && form.content <= Content::cr4) ||
		 form.rex_r_differs())
		rex &= ~4;
	if (form.prefix)
		code.put(form.prefix);
	switch (random().below(4)) {
	case 0:
		if (!form.prefix && form.rm < 0)
			code.put(0x66), size = 2;
		break;
	case 1: rex |= 0x48; break;
	}
	if (rex & 8)
		size = 8;
	if (rex)
		code.put(rex);
	if (form.escape)
		code.put(form.escape);
	code.put(form.opcode);
	if (form.modrm != ModRm::none) {
		u64 reg = random().below(8);
		while (!(form.extensions >> reg & 1))
			reg = random().below(8);
		const bool memory =
			form.modrm == ModRm::mem || (form.modrm == ModRm::any && random().below(2));
		if (!memory) {
			u64 rm = form.rm < 0 ? random().below(8) : static_cast<u64>(form.rm);
			// RSP has no table of pages.
			rm |= form.content == Content::cr3 && rm == 4;
			code.put(0xc0 | reg << 3 | rm);
		} else if (random().below(4)) {
			const u64 address =
				place::operand + random().below(0x400) +
				(random().below(4) ? 0
						   : place::again *
							     (two_parts() ? 3
									  : 1 + random().below(3)));
			code.put(reg << 3 | 4), code.put(0x25), code.put(address, 4);
			fill_memory(address);
		} else {
			const u64 rm = random().any_of<u64>({3, 5, 6});
			u64 address = scene.any_address();
			while (two_parts() && address >> 22)
				address = scene.any_address();
			code.put(0x40 | reg << 3 | rm), code.put(0);
			__u64 *const low[] = {&regs().rbx, &regs().rbp, &regs().rsi};
			__u64 *const high[] = {&regs().r11, &regs().r13, &regs().r14};
			*(rex & 1 ? high : low)[rm == 3 ? 0 : rm == 5 ? 1 : 2] = address;
			fill_memory(address);
		}
	}
	code.put(form.immediate == 2 ? random().below(64) : random().next(), form.immediate);
}

void Maker::fill_memory(u64 address)
{
	switch (form.content) {
	case Content::selectors: scene.poke(address, scene.any_selector(), 2); break;
	case Content::pointer:
		// Where a CALL notices a bad offset, before or after its push, is left open.
		scene.poke(address, form.extensions == 0x08 ? place::landing : scene.any_target(),
			size);
		scene.poke(address + size, scene.any_selector(), 2);
		break;
	case Content::table:
		scene.poke(address, random().next() | 0xfff, 2);
		scene.poke(address + 2, scene.any_address(), 8);
		break;
	default: break;
	}
}

void Maker::system_calls()
{
	State &state = scene.state;
	const auto target = [&] { return random().below(8) ? scene.any_target() : place::landing; };
	const auto canonical = [&] {
		const u64 one = target();
		return static_cast<u64>(static_cast<i64>(one << 16) >> 16);
	};
	if (random().below(8))
		state.sregs.efer |= 1;
	state.value_of(msr::star) = u64{selector::code64} << 32 | u64{selector::code32 | 3} << 48;
	state.value_of(msr::lstar) = canonical();
	state.value_of(msr::syscall_mask) = random().next() & 0x3f'ffff;
	state.value_of(msr::sysenter_cs) =
		random().one_in(8) ? 0 : u64{selector::code64} | random().below(4);
	state.value_of(msr::sysenter_eip) = canonical();
	state.value_of(msr::sysenter_esp) = place::inner_stack;
	regs().rcx = form.opcode == 0x35 ? scene.any_address() : target();
	regs().rdx = target();
	regs().r11 = scene.any_flags() | (random().one_in(8) ? flag::vm : 0);
}

void Maker::msrs()
{
	constexpr u32 indices[] = {msr::star, msr::lstar, msr::syscall_mask, msr::kernel_gs_base,
		msr::tsc_aux, msr::sysenter_cs, msr::sysenter_esp, msr::sysenter_eip, msr::pat,
		0xc000'0080, 0xc000'0100, 0xc000'0101, 0x1b, 0xfe, 0x1a0, 0x8b, 0x12345,
		0xc000'0103, 0x277};
	const u32 index = random().any_of(indices);
	regs().rcx = index | (random().wide() & ~0xffff'ffffull);
	u64 value = random().below(2) ? scene.any_address() : random().wide();
	if (index == 0xc000'0080)
		value = sregs().efer ^ random().any_of<u64>({1, 1, 1 << 8, 1 << 10, 2});
	else if (index == msr::pat && random().below(2))
		value = 0x0007'0406'0007'0106 ^ random().any_of<u64>({0, 1, 2, 4});
	// What else a machine has is only read.
	if (form.opcode == 0x30 && index < 0x1000 && index != msr::pat && (index & ~3u) != 0x174)
		regs().rcx = 0x12345;
	regs().rax = static_cast<u32>(value) | (random().wide() & ~0xffff'ffffull);
	regs().rdx = value >> 32 | (random().wide() & ~0xffff'ffffull);
}

// Leaves out returns in which Bochs differs from the SDM.
void Maker::spare_bochs(u64 (&frame)[5])
{
	// To compatibility mode it forgets the upper half of RIP, which is beyond any limit.
	if (frame[0] >> 32)
		frame[1] = random().below(2) ? selector::code64 : selector::user_code64;
	// It takes a null SS of any RPL.
	if (frame[4] < 4)
		frame[4] = frame[1] & 3;
	// From 64-bit mode to the same level SS and RSP are popped whatever the operand size (SDM
	// vol. 2, IRET); Bochs does so with 64 bits only.
	if (form.opcode == 0xcf && size != 8 && (frame[1] & 3) == cpl)
		frame[1] = cpl == 3 ? 0 : selector::user_code64;
}

void Maker::fill()
{
	u64 frame[5] = {scene.any_target(), scene.any_selector(), scene.any_flags(),
		scene.any_address(), scene.any_selector()};
	if (form.content == Content::far_frame || form.content == Content::interrupt_frame) {
		// Which of its words is read first is up to the processor.
		if (regs().rsp >> 22 < 3)
			regs().rsp &= place::again - 1;
		spare_bochs(frame);
	}
	switch (form.content) {
	case Content::selectors:
		for_each_gpr([&] { return (random().wide() & ~0xffffull) | scene.any_selector(); });
		// The SDM has LAR look at the type, Bochs at the upper half of a call gate, too.
		for (u64 entry = selector::random + 8; entry < selector::end; entry += 16)
			scene.value<u64>(at::gdt + entry) = 0;
		for (u64 entry = 8; entry < place::local_limit; entry += 16)
			scene.value<u64>(place::local_table + entry) = 0;
		break;
	case Content::cr0:
		for_each_gpr([&] {
			const u64 bit = random().below(32);
			return sregs().cr0 ^ (random().below(8) ? 1ull << bit : bit << 28);
		});
		break;
	case Content::cr3:
		for_each_gpr([&] {
			return sregs().cr3 ^
			       random().any_of<u64>({0, 8, 0x10, 0x18, 1ull << 63, 1ull << 52, 1});
		});
		break;
	case Content::cr4:
		for_each_gpr([&] { return sregs().cr4 ^ 1ull << random().below(64); });
		break;
	case Content::cr8: for_each_gpr([&] { return random().below(20); }); break;
	case Content::debug:
		// Nothing that breaks: far from where anything is.
		for_each_gpr([&] {
			return random().below(4) ? (random().wide() & 0xffff'df00)
						 : random().wide() << 36;
		});
		break;
	case Content::msr: msrs(); break;
	case Content::addresses: for_each_gpr([&] { return scene.any_address(); }); break;
	case Content::system_call: system_calls(); break;
	case Content::far_frame:
		if (form.escape) // POP FS and GS
			frame[0] = frame[1];
		// RETF has the stack behind its parameters.
		frame[2] = frame[3];
		frame[3] = frame[4];
		scene.poke(regs().rsp, frame, 2, size);
		scene.poke(regs().rsp + 2 * size + (form.immediate ? code.bytes[code.size - 2] : 0),
			frame + 2, 2, size);
		break;
	case Content::interrupt_frame:
		if (form.opcode == 0x9d)
			frame[0] = frame[2];
		scene.poke(regs().rsp, frame, 5, size);
		break;
	case Content::port:
		regs().rdx = (random().wide() & ~0xffffull) | random().below(0x110);
		regs().rsi = scene.any_address();
		regs().rdi = scene.any_address();
		break;
	case Content::leaf:
		regs().rax =
			random().any_of<u64>({0, 1, 7, 0xd, 0x8000'0000, 0x8000'0001, 0x4000'0000});
		regs().rcx = random().below(3);
		break;
	case Content::xcr:
		regs().rcx = random().any_of<u64>({0, 0, 2, 1ull << 32});
		regs().rax = random().below(8);
		regs().rdx = 0;
		break;
	default: break;
	}
	if (form.opcode == 0xcd)
		code.bytes[code.size - 1] &= 0x7f;
}

constexpr u64 umip = 1 << 11, fsgsbase = 1 << 16, osxsave = 1 << 18;

// Bits of CR4 that a guest may set here.
u64 optional_cr4()
{
	CpuidTable table = supported_cpuid();
	const kvm_cpuid_entry2 *basic = table.find(1), *extended = table.find(7);
	u64 bits = basic->ecx & 1 << 26 ? osxsave : 0;
	if (extended)
		bits |= (extended->ebx & 1 ? fsgsbase : 0) | (extended->ecx & 1 << 2 ? umip : 0);
	return bits;
}

void compare(unsigned cpl)
{
	Scene scene{Mode::long_mode, cpl + 5};
	const u64 cr4_of_cpuid = optional_cr4();
	unsigned count = 0;
	for (const Form &form : forms) {
		if (form.content == Content::time && cpl == 0)
			continue;
		count += form.modrm == ModRm::none || form.rm >= 0
				 ? 1
				 : static_cast<unsigned>(__builtin_popcount(form.extensions));
		unsigned different = 0;
		for (unsigned n = 0; n < states_per_form && different < 2 && !scene.hopeless();
			++n) {
			scene.begin(cpl);
			Maker maker{scene, form, cpl};
			kvm_sregs &sregs = scene.state.sregs;
			constexpr u64 tsd = 1 << 2, de = 1 << 3, pce = 1 << 8, ts = 1 << 3;
			for (const u64 bit : {de, pce, cr4_of_cpuid & umip, cr4_of_cpuid & fsgsbase,
				     cr4_of_cpuid & osxsave})
				sregs.cr4 |= scene.random.below(2) ? bit : 0;
			if (form.content == Content::time)
				sregs.cr4 |= tsd;
			if (scene.random.below(2))
				sregs.cr0 |= ts;
			scene.state.debug.db[1] = scene.random.wide();
			if (scene.random.one_in(8))
				scene.state.debug.dr7 |= 1 << 13;
			maker.encode();
			maker.fill();
			scene.set_code(maker.code);
			different += !scene.alike(scene.state);
		}
	}
	scene.summarize(count, "forms");
}

} // namespace

TEST(privileged_64bit_code_in_software)
{
	compare(0);
}

TEST(unprivileged_64bit_code_in_software)
{
	compare(3);
}
