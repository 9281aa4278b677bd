// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/differential/form.h"

#include <cpuid.h>
#include "tests/emulator/differential/text.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::differential
{

namespace
{

constexpr Map maps[] = {
	{"", &one_byte_map, {}, 0},
	{"0F ", &two_byte_map, {0x0f}, 0},
	{"0F 38 ", &map_0f38, {0x0f, 0x38}, 0},
	{"0F 3A ", &map_0f3a, {0x0f, 0x3a}, 0},
	{"VEX 0F ", &vex_0f, {}, 1},
	{"VEX 0F 38 ", &vex_0f38, {}, 2},
	{"VEX 0F 3A ", &vex_0f3a, {}, 3},
};

struct Choice {
	when::Condition condition;
	u8 prefix;
};
constexpr Choice prefixes[] = {
	{when::np, 0}, {when::p66, 0x66}, {when::pf3, 0xf3}, {when::pf2, 0xf2}};

bool is_string(const Row &row)
{
	const Form form{.row = &row};
	return form.is_one_of(op::movs, op::stos, op::lods, op::cmps, op::scas);
}

// F2 and F3 make a form where they select one, or repeat.
bool prefix_matters(const Row &row, const Choice &choice)
{
	constexpr when::Condition all = when::np | when::p66 | when::pf3 | when::pf2;
	if (!(row.condition & choice.condition))
		return false;
	return choice.prefix < 0xf2 || (row.condition & all) != all || is_string(row);
}

void add_forms(std::vector<Form> &forms, const Map &map, const Row &row, u8 opcode)
{
	for (const Choice &choice : prefixes) {
		if (!prefix_matters(row, choice))
			continue;
		for (unsigned shape = 0; shape < 16; ++shape) {
			Form form{&map, &row, opcode, choice.prefix};
			form.memory = shape & 1;
			form.w = shape & 2;
			form.l = shape & 4;
			form.lock = shape & 8;
			if (form.memory && (!row.has_modrm() || row.opcode.rm != Opcode::any ||
						   !(row.condition & when::mem)))
				continue;
			if (!form.memory && row.has_modrm() && !(row.condition & when::reg))
				continue;
			if (!(row.condition & (form.w ? when::w1 : when::w0)) ||
				!(row.condition & (form.l ? when::l1 : when::l0)))
				continue;
			if (form.l && !map.vex)
				continue;
			if (form.w && form.prefix == 0x66 && !map.vex)
				continue; // 66 means nothing then
			if (form.lock && !(row.rules & rule::lock && form.memory))
				continue;
			forms.push_back(form);
		}
	}
}

} // namespace

std::vector<Form> all_forms()
{
	std::vector<Form> forms;
	for (const Map &map : maps)
		for (const Row &row : map.map->rows())
			if (row.condition & when::m64)
				for (unsigned opcode = row.opcode.first; opcode <= row.opcode.last;
					++opcode)
					add_forms(forms, map, row, static_cast<u8>(opcode));
	return forms;
}

std::string Form::name() const
{
	std::string text;
	if (lock)
		text += "LOCK ";
	if (prefix)
		text += formatted("%02X ", prefix);
	if (w)
		text += map->vex ? "W1 " : "REX.W ";
	if (l)
		text += "L1 ";
	text += formatted("%s%02X", map->prefix, opcode);
	if (row->opcode.reg != Opcode::any)
		text += formatted(" /%u", row->opcode.reg);
	if (row->opcode.rm != Opcode::any)
		text += formatted("/%u", row->opcode.rm);
	if (row->has_modrm())
		text += memory ? " mem" : " reg";
	return text;
}

const char *lacks(const Form &form)
{
	enum Register : u8 { eax, ebx, ecx, edx };
	struct Bit {
		u32 leaf;
		Register reg;
		u8 bit;
		const char *name;
	};
	// In the order of Feature.
	static constexpr Bit features[] = {{}, {1, ecx, 23, "POPCNT"}, {1, ecx, 22, "MOVBE"},
		{1, ecx, 20, "SSE4.2"}, {0x80000001, ecx, 5, "LZCNT"}, {7, ebx, 3, "BMI1"},
		{7, ebx, 8, "BMI2"}, {7, ebx, 19, "ADX"}, {7, ebx, 20, "SMAP"},
		{0x80000001, edx, 27, "RDTSCP"}, {7, ecx, 22, "RDPID"}, {7, ebx, 0, "FSGSBASE"},
		{1, ecx, 13, "CMPXCHG16B"}, {0x80000008, ebx, 9, "WBNOINVD"}};
	const auto missing = [](const Bit &wanted) -> const char * {
		u32 r[4] = {};
		if (wanted.name)
			__get_cpuid_count(wanted.leaf, 0, &r[0], &r[1], &r[2], &r[3]);
		return wanted.name && !(r[wanted.reg] & bit(wanted.bit)) ? wanted.name : nullptr;
	};
	if (const char *name = missing(features[static_cast<u8>(form.row->feature)]))
		return name;
	const bool clwb = form.is(op::flush_line) && form.row->opcode.reg == 6;
	if (clwb && missing({7, ebx, 24, "CLWB"}))
		return "CLWB";
	if (form.is(op::flush_line) && form.prefix == 0x66 && !clwb &&
		missing({7, ebx, 23, "CLFLUSHOPT"}))
		return "CLFLUSHOPT";
	if (form.is(op::movbe) && form.prefix == 0x66)
		return missing(features[static_cast<u8>(Feature::movbe)]);
	if (form.row->rules & rule::avx && missing({1, ecx, 28, "AVX"}))
		return "AVX";
	if (form.is(op::move_vector) && form.map->vex == 2 && form.l &&
		missing({7, ebx, 5, "AVX2"}))
		return "AVX2";
	if (form.is(op::cmpxchg_pair) && form.w && missing({1, ecx, 13, "CMPXCHG16B"}))
		return "CMPXCHG16B";
	return nullptr;
}

const char *cannot_run(const Form &form)
{
	static const bool amd = [] {
		u32 r[4] = {};
		__get_cpuid(0, &r[0], &r[1], &r[2], &r[3]);
		return r[1] == 0x68747541 || r[1] == 0x6f677948; // AuthenticAMD, HygonGenuine
	}();

	if (form.is_one_of(op::syscall, op::sysenter))
		return "enters the kernel";
	if (form.is_one_of(op::int3, op::int1))
		return "is how the end of a state is seen";
	if (form.is_one_of(op::rdtsc, op::rdtscp, op::rdpid, op::rdpmc))
		return "answers differently each time";
	if (form.is_one_of(op::sgdt, op::sidt, op::smsw, op::sldt, op::str))
		return "shows the kernel's tables, or is emulated by it under UMIP";
	if (form.is(op::hypercall))
		return "calls the hypervisor below";
	if (form.is_one_of(op::les, op::lds) ||
		(form.row->rules & rule::no64 && (form.opcode & 0xf0) == 0x40))
		return "is a prefix in 64-bit mode";
	if (form.is(op::unknown))
		return "is not emulated: transactions";
	if (form.is_one_of(op::in, op::out, op::ins, op::outs))
		return "depends on the kernel's I/O bitmap";
	if (!amd)
		return nullptr;
	// The emulator does as Intel's processors do.
	if (form.prefix == 0x66 && form.row->rules & rule::f64 && !form.map->vex)
		return "AMD: 66 cuts the target of a near branch to 16 bits";
	if (form.is_one_of(op::lss, op::lfs, op::lgs, op::jmp_far_memory, op::call_far_memory) &&
		form.w)
		return "AMD: no far pointer of 10 bytes";
	if (form.is(op::movsx) && form.opcode == 0x63 && form.prefix == 0x66)
		return "AMD: reads four bytes";
	if (form.is(op::nop) && form.opcode == 0x0d && !form.memory)
		return "AMD: #UD";
	if (form.is(op::sysexit))
		return "AMD: #UD in 64-bit mode";
	if (form.is(op::undefined) && form.map->map == &two_byte_map &&
		(form.opcode == 0x01 || form.opcode == 0x78 || form.opcode == 0x79 ||
			form.opcode == 0x0d))
		return "AMD: SVM or SSE4A";
	return nullptr;
}

} // namespace kvmpp::x86::emulator::differential
