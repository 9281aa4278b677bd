// SPDX-License-Identifier: GPL-2.0-only
// The emulator against the processor where code changes its privilege level: call, interrupt and
// trap gates of random contents, and the returns, in protected, 64-bit and compatibility mode.
#include "scene.h"

using namespace kvmpp::selftests;

namespace
{

constexpr unsigned states_per_way = 16;

enum class Bits : u8 { protected32, compatibility, long64 };

// How control is passed on. `interrupt` to `protection_fault` go through the vector's gate.
enum class Way : u8 {
	interrupt,
	breakpoint,
	overflow,
	undefined,
	protection_fault,
	call,
	jump,
	call_memory,
	jump_memory,
	ret,
	ret_parameters,
	iret,
};

constexpr Way ways[] = {Way::interrupt, Way::breakpoint, Way::overflow, Way::undefined,
	Way::protection_fault, Way::call, Way::jump, Way::call_memory, Way::jump_memory, Way::ret,
	Way::ret_parameters, Way::iret};

constexpr u8 interrupt_vector = 0x50;
constexpr u16 spare = selector::random; // the entry of the GDT that has the call gate
constexpr u8 parameter_bytes = 12;

u8 vector_of(Way way)
{
	switch (way) {
	case Way::breakpoint: return 3;
	case Way::overflow: return 4;
	case Way::undefined: return 6;
	case Way::protection_fault: return 13;
	default: return interrupt_vector;
	}
}

bool has_gate(Way way)
{
	return way <= Way::protection_fault;
}

struct Transfer {
	Scene &scene;
	Bits bits;
	unsigned cpl;
	Way way;
	Instruction code{};
	unsigned size = 4; // of the operand

	Random &random() { return scene.random; }
	u64 &rsp() { return *reinterpret_cast<u64 *>(&scene.state.regs.rsp); }

	void prepare();
	void prepare_gate();
	void prepare_call_gate();
	void prepare_frame();
	void encode();
};

// A gate of the interrupt table: of the right kind mostly.
void Transfer::prepare_gate()
{
	const u8 type =
		random().below(8)
			? random().any_of<u8>({descriptor::interrupt_gate, descriptor::trap_gate})
			: random().any_of<u8>({6, 7, 0, 12, 13});
	// Bochs notices offsets that are not canonical after its push only.
	const u64 upper = random().below(12) ? 0 : random().any_of<u64>({0xffff'8000, 1});
	u64 gate = scene.any_gate(type);
	// A HLT at a level that must not halt would come back here for ever.
	if (way == Way::protection_fault)
		gate = (gate & ~0xffff'0000ull) |
		       u64{scene.wide() ? selector::code64 : selector::code32} << 16;
	scene.set_gate(vector_of(way), gate, upper);
}

void Transfer::prepare_call_gate()
{
	u64 *entry = &scene.value<u64>(at::gdt + spare);
	entry[0] = scene.any_gate(
		random().below(8) ? descriptor::call_gate : descriptor::call_gate - 8);
	entry[1] = random().below(12)
			   ? 0
			   : random().any_of<u64>({0x8000, 0xffff'8000, 1, 0x100'0000'0000});
}

// For the returns.
void Transfer::prepare_frame()
{
	const bool iret = way == Way::iret;
	u64 frame[5];
	unsigned count = 0;
	frame[count++] = scene.any_target();
	u64 &code_selector = frame[count++] = scene.any_selector();
	if (random().below(2))
		code_selector = random().any_of<u64>({selector::code32, selector::code64,
			selector::user_code32, selector::user_code64, selector::user_code16});
	if (iret)
		frame[count++] = scene.any_flags();
	const unsigned first = count;
	frame[count++] = scene.any_address();
	u64 &stack_selector = frame[count++] = scene.any_selector();
	if (random().below(2))
		stack_selector = selector::data | (code_selector & 3);
	if ((code_selector & 3) == 3 && random().below(2))
		stack_selector = selector::user_data;
	scene.poke(rsp(), frame, first, size);
	scene.poke(rsp() + first * size + (way == Way::ret_parameters ? parameter_bytes : 0),
		frame + first, count - first, size);
}

void Transfer::encode()
{
	const u64 selector = random().below(4) ? spare | random().below(4) : scene.any_selector();
	const u64 offset = place::landing;
	const bool memory = way == Way::call_memory || way == Way::jump_memory;
	if (way >= Way::call && random().one_in(4)) {
		code.put(0x66);
		size = 2;
	} else if (bits == Bits::long64 && way >= Way::call && random().below(4)) {
		code.put(0x48);
		size = 8;
	}
	if (memory) {
		scene.poke(place::operand, offset, size);
		scene.poke(place::operand + size, selector, 2);
	}
	switch (way) {
	case Way::interrupt: code.put(0xcd), code.put(interrupt_vector); break;
	case Way::breakpoint: code.put(0xcc); break;
	case Way::overflow: code.put(0xce); break;
	case Way::undefined: code.put(0x0f), code.put(0x0b); break;
	case Way::protection_fault: // MOV DS, AX
		scene.state.regs.rax = 0xfff0;
		code.put(0x8e), code.put(0xd8);
		break;
	case Way::call: code.put(0x9a), code.put(offset, size), code.put(selector, 2); break;
	case Way::jump: code.put(0xea), code.put(offset, size), code.put(selector, 2); break;
	case Way::call_memory:
		code.put(0xff), code.put(0x1c), code.put(0x25), code.put(place::operand, 4);
		break;
	case Way::jump_memory:
		code.put(0xff), code.put(0x2c), code.put(0x25), code.put(place::operand, 4);
		break;
	case Way::ret: code.put(0xcb); break;
	case Way::ret_parameters: code.put(0xca), code.put(parameter_bytes, 2); break;
	case Way::iret: code.put(0xcf); break;
	}
}

void Transfer::prepare()
{
	scene.begin(cpl);
	if (bits == Bits::compatibility) {
		scene.state.sregs.cs = flat_segment(
			static_cast<u16>((selector::code32 & ~3) | cpl), descriptor::code);
		for (__u64 *gpr = &scene.state.regs.rax; gpr <= &scene.state.regs.r15; ++gpr)
			*gpr &= 0xffff'ffff;
	}
	rsp() &= place::again - 1;
	if (random().below(2))
		scene.state.regs.rflags |= flag::of;
	encode();
	if (has_gate(way))
		prepare_gate();
	else if (way < Way::ret)
		prepare_call_gate();
	else
		prepare_frame();
	scene.set_code(code);
}

void compare(Bits bits)
{
	Scene scene{bits == Bits::protected32 ? Mode::protected_mode : Mode::long_mode,
		static_cast<u64>(bits) + 31};
	const u64 handlers = at::handlers;
	unsigned count = 0;
	for (const Way way : ways) {
		// The returns of 64-bit mode are in emulator_long.cpp.
		if (bits == Bits::long64 && (way == Way::overflow || way == Way::call ||
						    way == Way::jump || way >= Way::ret))
			continue;
		for (const unsigned cpl : {0u, 1u, 3u}) {
			++count;
			unsigned different = 0;
			for (unsigned n = 0;
				n < states_per_way && different < 2 && !scene.hopeless(); ++n) {
				Transfer transfer{scene, bits, cpl, way};
				transfer.prepare();
				if (!scene.alike(scene.state)) {
					++different;
					note("way %u, cpl %u", static_cast<unsigned>(way), cpl);
				}
				if (has_gate(way))
					scene.set_gate(vector_of(way),
						descriptor::gate(descriptor::interrupt_gate, 3,
							bits == Bits::protected32
								? selector::code32
								: selector::code64,
							handlers + vector_of(way)));
			}
		}
	}
	scene.summarize(count, "transfers");
}

} // namespace

TEST(protected_mode_transfers_in_software)
{
	compare(Bits::protected32);
}

TEST(compatibility_mode_transfers_in_software)
{
	compare(Bits::compatibility);
}

TEST(long_mode_transfers_in_software)
{
	compare(Bits::long64);
}
