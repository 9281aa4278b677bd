// SPDX-License-Identifier: GPL-2.0-only
#include "scene.h"

namespace kvmpp::selftests
{

namespace
{

using descriptor::Size;

constexpr u64 cr0_wp = 1 << 16, cr0_pg = 1u << 31, cr4_pse = 1 << 4;
constexpr u64 accessed = 1 << 5, dirty = 1 << 6, page_user = 7 | accessed | dirty, large = 1 << 7;
constexpr u64 supervisor = page_user & ~4ull, read_only = page_user & ~2ull;
constexpr u64 not_canonical = 1ull << 47;

// What the processor would mark in tables is marked already: it may remember having done so.
void map_long(u64 *tables)
{
	tables[0] |= page_user;
	for (u64 i = 0; i < 4; ++i)
		tables[512 + i] |= page_user;
	u64 *first = tables + 2 * 512;
	for (u64 i = 0; i < 4 * 512; ++i)
		first[i] |= page_user;
	for (u64 half = 0; half < 2; ++half) {
		const u64 there = half << 21 | large;
		first[2 + half] = 0;
		first[4 + half] = there | supervisor;
		first[6 + half] = there | read_only;
	}
}

void map_protected(u32 *directory)
{
	for (u64 i = 0; i < 1024; ++i)
		directory[i] = static_cast<u32>(i << 22 | large | page_user);
	directory[1] = 0;
	directory[2] = large | supervisor;
	directory[3] = large | read_only;
}

} // namespace

Scene::Scene(Mode mode, u64 seed) : Twins(mode), random{seed}, mode_(mode)
{
	using namespace descriptor;
	for (u8 &byte : image)
		if (&byte < image + at::idt)
			byte = 0xf4;
		else if (&byte >= image + at::data)
			byte = static_cast<u8>(random.next() & 0xfe);
	memset(image + place::far_landing, 0xf4, 0x100);
	for (u32 vector = 0; vector < 256; ++vector)
		set_gate(static_cast<u8>(vector),
			gate(interrupt_gate, vector < 0x40 && vector != 3 ? 0 : 3,
				wide() ? selector::code64 : selector::code32,
				at::handlers + vector));

	u64 *gdt = &value<u64>(at::gdt);
	gdt[selector::user_code32 / 8] = segment(code, 3, Size::bits32);
	gdt[selector::conforming / 8] =
		segment(conforming, 0, wide() ? Size::bits64 : Size::bits32);
	gdt[selector::user_code16 / 8] = segment(code, 3, Size::bits16, 0, 0xffff);
	gdt[selector::local / 8] = system(ldt, 0, place::local_table, place::local_limit);
	gdt[selector::tss / 8] = system(busy_tss, 0, at::tss, place::tss_limit);

	kvm_sregs &sregs = start.sregs;
	sregs.gdt.limit = selector::end - 1;
	sregs.ldt = {};
	sregs.ldt.base = place::local_table;
	sregs.ldt.limit = place::local_limit;
	sregs.ldt.selector = selector::local;
	sregs.ldt.type = ldt;
	sregs.ldt.present = 1;
	sregs.tr = sregs.ldt;
	sregs.tr.base = at::tss;
	sregs.tr.limit = place::tss_limit;
	sregs.tr.selector = selector::tss;
	sregs.tr.type = busy_tss;
	sregs.cr0 |= cr0_pg | cr0_wp;
	sregs.cr3 = at::page_tables;
	if (wide()) {
		map_long(&value<u64>(at::page_tables));
	} else {
		sregs.cr4 |= cr4_pse;
		map_protected(&value<u32>(at::page_tables));
	}
}

void Scene::set_gate(u8 vector, u64 gate, u64 upper)
{
	if (!wide()) {
		value<u64>(at::idt + 8 * vector) = gate;
		return;
	}
	value<u64>(at::idt + 16 * vector) = gate;
	value<u64>(at::idt + 16 * vector + 8) = upper;
}

u16 Scene::any_selector()
{
	constexpr u16 good[] = {selector::code64, selector::data, selector::code32,
		selector::user_data, selector::user_code64, selector::user_code32,
		selector::conforming, selector::user_code16, selector::tss, selector::local,
		selector::code16};
	const u16 rpl = random.any_of<u16>({0, 0, 3, 3, 1, 2});
	switch (random.below(16)) {
	case 0: return static_cast<u16>(random.below(4));
	case 1: return static_cast<u16>(random.next());
	case 2 ... 3: return static_cast<u16>(random.below(5) * 16 | 4 | rpl);
	case 4 ... 8: {
		const u16 one = random.any_of(good);
		return random.below(4) ? one : static_cast<u16>((one & ~3) | rpl);
	}
	default:
		return static_cast<u16>(
			selector::random + random.below(selector::random_count) * 16 + rpl);
	}
}

u64 Scene::any_address()
{
	const u64 plain = place::operand + (random.below(0x400) & (random.below(4) ? ~7u : ~0u));
	if (random.below(5))
		return plain;
	if (random.below(4))
		return plain + place::again * (1 + random.below(3));
	return wide() ? random.any_of<u64>(
				{not_canonical, 0 - not_canonical, ~0ull, not_canonical - 4}) +
				plain
		      : 0x10'0000 + (random.next() & 0xf'ffff);
}

u64 Scene::any_target()
{
	if (random.below(8))
		return place::landing + random.below(0x80) * 2;
	if (wide())
		return random.any_of<u64>(
			{not_canonical, 0 - not_canonical, place::again, 0 - place::again});
	return random.any_of({place::again, place::far_landing});
}

u64 Scene::any_segment_descriptor()
{
	const u8 type = random.below(4) ? random.any_of<u8>({descriptor::data, descriptor::code,
						  descriptor::conforming})
					: static_cast<u8>(random.below(16));
	const Size good = wide() ? Size::bits64 : Size::bits32;
	const Size size = type >= 8 && random.below(4) ? good : static_cast<Size>(random.below(4));
	const u64 limit = random.below(4) ? 0xfffff | descriptor::granular : random.below(0x4000);
	u64 low = descriptor::segment(type, random.any_of<u64>({0, 0, 3, 3, 1, 2}), size,
		random.any_of<u64>({0, 0, 0, 0x100}), limit);
	if (random.one_in(8))
		low &= ~descriptor::accessed;
	return random.one_in(8) ? low & ~descriptor::present : low;
}

u64 Scene::any_gate(u8 type)
{
	const u16 selector =
		random.below(2) ? (wide() ? selector::code64 : selector::code32) : any_selector();
	const u64 low = descriptor::gate(type, random.any_of<u64>({0, 3, 3, 3, 1}), selector,
		any_target(), random.below(3) ? 0 : random.below(8));
	return random.one_in(8) ? low & ~descriptor::present : low;
}

u64 Scene::any_system_descriptor()
{
	const u64 dpl = random.below(4);
	u64 low;
	switch (const u8 type = static_cast<u8>(random.below(16))) {
	case descriptor::ldt:
		low = descriptor::system(type, dpl, place::local_table, random.below(0x80));
		break;
	case descriptor::tss:
	case descriptor::busy_tss:
	case descriptor::tss - descriptor::narrow:
	case descriptor::busy_tss - descriptor::narrow:
		// Without IA-32e mode a task switch, which is not for here.
		low = descriptor::system(wide() ? type : descriptor::ldt, dpl, at::tss,
			random.below(4) ? place::tss_limit : 0x20);
		break;
	case descriptor::call_gate:
	case descriptor::call_gate - descriptor::narrow: return any_gate(type);
	default: low = descriptor::system(type, dpl, 0, 0xfff); break;
	}
	return random.one_in(8) ? low & ~descriptor::present : low;
}

void Scene::fill_table(u64 base, unsigned count)
{
	for (unsigned i = 0; i < count; ++i) {
		u64 *entry = &value<u64>(base + 16 * i);
		switch (random.below(8)) {
		case 0 ... 1: entry[0] = any_system_descriptor(); break;
		case 2: entry[0] = any_gate(descriptor::call_gate); break;
		default: entry[0] = any_segment_descriptor(); break;
		}
		// The upper half of system descriptors in IA-32e mode.
		entry[1] = random.below(8)
				   ? 0
				   : random.any_of<u64>({1, 0xffff, 0x8000, 0x1f00'0000'0000});
	}
}

u64 Scene::any_flags()
{
	const u64 free = flag::status | flag::df | flag::id;
	u64 flags = (random.wide() & free) | flag::fixed;
	for (const u64 one : {flag::interrupt, flag::iopl, flag::iopl})
		flags |= random.below(2) ? one : 0;
	for (const u64 one : {flag::nt, flag::ac})
		flags |= random.one_in(8) ? one : 0;
	return flags;
}

void Scene::begin(unsigned cpl)
{
	fill_table(at::gdt + selector::random, selector::random_count);
	fill_table(place::local_table, (place::local_limit + 1) / 16);
	value<u64>(at::gdt + selector::tss) =
		descriptor::system(descriptor::busy_tss, 0, at::tss, place::tss_limit);

	// The stacks of inner levels, with a map of ports.
	memset(image + at::tss, 0, place::redirections - at::tss);
	for (unsigned level = 0; level < 3; ++level) {
		const u64 pointer = random.one_in(16) ? any_address()
						      : place::inner_stack + random.below(0x100);
		if (wide()) {
			value<u64>(at::tss + 4 + 8 * level) = pointer;
		} else {
			value<u32>(at::tss + 4 + 8 * level) = static_cast<u32>(pointer);
			value<u32>(at::tss + 8 + 8 * level) =
				level == 0 && random.below(8) ? selector::data : any_selector();
		}
	}
	for (unsigned i = 1; wide() && i < 8; ++i)
		value<u64>(at::tss + 0x1c + 8 * i) =
			random.one_in(8) ? any_address() : place::inner_stack + random.below(0x100);
	value<u16>(at::tss + 0x66) = place::port_map - at::tss;
	for (u64 i = place::redirections; i < at::tss + place::tss_limit; ++i)
		image[i] = static_cast<u8>(random.next());
	image[at::tss + place::tss_limit] = 0xff;

	state = start;
	kvm_sregs &sregs = state.sregs;
	const u16 data = cpl == 3 ? selector::user_data : static_cast<u16>(selector::data | cpl);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(data, descriptor::data);
	const u16 code = wide() ? (cpl == 3 ? selector::user_code64 : selector::code64 | cpl)
				: (cpl == 3 ? selector::user_code32 : selector::code32 | cpl);
	sregs.cs = flat_segment(code, descriptor::code);
	if (wide()) {
		sregs.cs.db = 0;
		sregs.cs.l = 1;
		sregs.fs.base = random.wide() >> 24;
		sregs.gs.base = 0 - (random.wide() >> 24);
	}
	kvm_regs &regs = state.regs;
	for (__u64 *gpr = &regs.rax; gpr <= &regs.r15; ++gpr)
		*gpr = wide() ? random.wide() : random.next() & 0xffff'ffff;
	regs.rsp = (cpl == 3 ? place::user_stack : place::stack) + random.below(0x40) * 8;
	if (random.one_in(16))
		regs.rsp += place::again * (1 + random.below(3));
	regs.rip = at::code;
	regs.rflags = any_flags();
}

void Scene::poke(u64 address, const u64 *values, unsigned count, unsigned size)
{
	for (unsigned i = 0; i < count; ++i) {
		const u64 there = (address + i * size) & (place::again - 1);
		if (there + size <= watched)
			memcpy(image + there, &values[i], size);
	}
}

} // namespace kvmpp::selftests
