// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/differential/compare.h"

#include <algorithm>
#include <cstring>
#include "tests/emulator/differential/text.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

namespace
{

// What of the FXSAVE image says something: not the pointers to the last x87 instruction, which
// processors keep or not, nor what is reserved.
bool equal_extended(const XsaveImage &a, const XsaveImage &b)
{
	const auto equal = [&](unsigned from, unsigned to) {
		return memcmp(a.legacy + from, b.legacy + from, to - from) == 0;
	};
	return equal(0, 5) && equal(24, 28) && equal(32, 416) &&
	       memcmp(a.upper, b.upper, sizeof(a.upper)) == 0;
}

unsigned shift_count(const State &state, const Instruction &instruction)
{
	for (const Operand *operand : {&instruction.operands[2], &instruction.operands[1]}) {
		if (operand->size != 1)
			continue;
		const u64 count = operand->kind == Operand::Kind::constant ? operand->value
									   : state.registers.gpr[1];
		return count & (instruction.operands[0].size == 8 ? 63 : 31);
	}
	return 0;
}

bool is(const Ending &ending, Vector vector)
{
	return ending.vector == static_cast<u8>(vector);
}

bool equal_faults(const Ending &emulated, const Ending &native)
{
	if (is(emulated, Vector::page_fault) && is(native, Vector::page_fault)) {
		// Linux claims that whatever is not user space is present.
		constexpr u64 user_space = bit(47) - page_size;
		const u32 hidden = native.address >= user_space ? page_fault_code::present : 0;
		return emulated.address == native.address &&
		       (emulated.error_code | hidden) == native.error_code;
	}
	return emulated.vector == native.vector && emulated.error_code == native.error_code;
}

// Which of several faults that are due comes first differs between processors (SDM vol. 3, table
// 6-2), and so does whether vectors are checked for alignment.
bool processors_choice(const State &state, const Instruction &instruction, const Ending &emulated,
	const Ending &native)
{
	if (!instruction.row || native.vector == Ending::no_vector)
		return false;
	const Form form{.row = instruction.row};
	const bool checks_alignment = state.registers.rflags & X86_EFLAGS_AC;
	unsigned widest = 0;
	for (const Operand &operand : instruction.operands)
		if (operand.in_memory())
			widest = std::max<unsigned>(widest, operand.size);
	const bool wants_alignment = instruction.row->rules & rule::aligned ||
				     form.is_one_of(op::fxsave, op::fxrstor, op::cmpxchg_pair);
	if (is(native, Vector::alignment_check) && checks_alignment &&
		(wants_alignment || widest > 8))
		return true;
	if (form.is(op::store_masked))
		return true;
	if (emulated.vector == Ending::no_vector)
		return false;
	if (is(native, Vector::alignment_check))
		return checks_alignment;
	if (wants_alignment && is(native, Vector::general_protection))
		return true;
	return form.is_one_of(op::cmps, op::ret_far, op::iret, op::call, op::call_relative,
		op::call_far_memory, op::enter, op::fxsave, op::fxrstor);
}

} // namespace

Compared compare(const State &state, const Ending &emulated, const Ending &native)
{
	Instruction instruction;
	const bool decoded = decode(instruction, {state.code, max_instruction_bytes},
				     Mode::long64) == Decoded::complete;
	u64 ignored = X86_EFLAGS_RF;
	if (decoded && emulated.vector == Ending::no_vector) {
		const unsigned count = shift_count(state, instruction);
		if (undefined_result(instruction, count))
			return Compared::undefined;
		ignored |= undefined_flags(instruction, count);
	}
	Registers64 a = emulated.registers, b = native.registers;
	// A fault of the host's own, when it brings in the next page of code, is over with an IRET that may
	// take the RPL from null selectors. RF shows it.
	if (b.rflags & X86_EFLAGS_RF)
		for (auto *selector : {&a.ds, &a.es, &b.ds, &b.es})
			if (*selector < 4)
				*selector = 0;
	a.rflags &= ~ignored;
	b.rflags &= ~ignored;
	if (processors_choice(state, instruction, emulated, native))
		return Compared::undefined;
	const bool equal =
		a == b && equal_faults(emulated, native) && emulated.changed == native.changed &&
		(!state.uses_extended || equal_extended(emulated.extended, native.extended));
	return equal ? Compared::equal : Compared::different;
}

std::string describe(const State &state, const Ending &emulated, const Ending &native)
{
	static constexpr const char *names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi",
		"rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	std::string text = "  code";
	for (unsigned i = 0; i < state.code_size; ++i)
		text += formatted(" %02x", state.code[i]);
	text += formatted("  at %#llx, rflags %#llx\n  starts with", state.registers.rip,
		state.registers.rflags);
	for (unsigned i = 0; i < 16; ++i)
		text += formatted(" %s=%llx", names[i], state.registers.gpr[i]);
	text += '\n';
	const auto line = [&](const char *what, u64 a, u64 b) {
		if (a != b)
			text += formatted("  %s: emulated %#llx, native %#llx\n", what, a, b);
	};
	for (unsigned i = 0; i < 16; ++i)
		line(names[i], emulated.registers.gpr[i], native.registers.gpr[i]);
	line("rip", emulated.registers.rip, native.registers.rip);
	line("rflags", emulated.registers.rflags, native.registers.rflags);
	line("fs base", emulated.registers.fs_base, native.registers.fs_base);
	line("gs base", emulated.registers.gs_base, native.registers.gs_base);
	line("ds", emulated.registers.ds, native.registers.ds);
	line("es", emulated.registers.es, native.registers.es);
	line("vector", emulated.vector, native.vector);
	line("error code", emulated.error_code, native.error_code);
	if (emulated.vector == 14 || native.vector == 14)
		line("address", emulated.address, native.address);
	const auto changes = [&](const char *who, const Changed &changed) {
		text += formatted("  %s writes %u bytes at %#llx:", who, changed.size,
			data_pages + changed.from);
		for (unsigned i = 0; i < changed.size && i < 32; ++i)
			text += formatted(" %02x", changed.bytes[i]);
		text += '\n';
	};
	if (!(emulated.changed == native.changed)) {
		changes("emulator", emulated.changed);
		changes("processor", native.changed);
	}
	if (state.uses_extended && !equal_extended(emulated.extended, native.extended)) {
		const auto bytes = [&](const char *what, const void *before, const void *a,
					   const void *b, unsigned size) {
			if (memcmp(a, b, size) == 0)
				return;
			const auto row = [&](const char *name, const void *from) {
				text += formatted("\n    %s", name);
				for (unsigned i = 0; i < size; ++i)
					text += formatted(
						" %02x", static_cast<const u8 *>(from)[i]);
			};
			text += formatted("  %s:", what);
			row("before  ", before);
			row("emulated", a);
			row("native  ", b);
			text += '\n';
		};
		const u8 *s = state.extended.legacy, *e = emulated.extended.legacy,
			 *n = native.extended.legacy;
		bytes("x87 control, status, tags", s, e, n, 5);
		bytes("mxcsr", s + 24, e + 24, n + 24, 4);
		for (unsigned i = 0; i < 8; ++i)
			bytes(formatted("st%u", i).c_str(), s + 32 + 16 * i, e + 32 + 16 * i,
				n + 32 + 16 * i, 16);
		for (unsigned i = 0; i < 16; ++i) {
			bytes(formatted("xmm%u", i).c_str(), s + 160 + 16 * i, e + 160 + 16 * i,
				n + 160 + 16 * i, 16);
			bytes(formatted("upper %u", i).c_str(), state.extended.upper[i],
				emulated.extended.upper[i], native.extended.upper[i], 16);
		}
	}
	return text;
}

} // namespace kvmpp::x86::emulator::differential
