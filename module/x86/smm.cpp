// SPDX-License-Identifier: GPL-2.0-only
#include "x86/smm.h"

#include <utility>
#include "x86/control_registers.h"

namespace kvmpp::x86::smm
{
namespace
{

// Read and written at the offsets of the manuals, of which all but the low nine bits are the area's own.
template <class Bytes>
class Place {
public:
	explicit Place(Bytes &area) : area_{area} {}

	template <class T>
	void put(u32 offset, T value) const
	{
		__builtin_memcpy(&area_[offset % area_size], &value, sizeof(T));
	}
	template <class T>
	T get(u32 offset) const
	{
		T value;
		__builtin_memcpy(&value, &area_[offset % area_size], sizeof(T));
		return value;
	}

private:
	Bytes &area_;
};

// The access rights that a descriptor has, where VMX has them as well. A segment that cannot be used is
// not present.
constexpr u32 rights_mask = 0xf0ff, present = 1 << 7;

u32 stored(AccessRights rights)
{
	return rights.unusable() ? rights.raw & rights_mask & ~present : rights.raw & rights_mask;
}

Segment loaded(u16 selector, u32 limit, u64 base, u32 rights)
{
	AccessRights of{rights & rights_mask};
	if (!of.present())
		of.raw |= AccessRights::unusable_bit;
	else
		limit = of.granular() ? limit | 0xfff : limit & 0xfffff;
	return {.selector = selector, .limit = limit, .base = base, .rights = of};
}

constexpr u8 sti_bit = 1, mov_ss_bit = 2;

u8 shadow_of(const SmmState &state)
{
	return static_cast<u8>((state.after_sti ? sti_bit : 0) | (state.after_mov_ss ? mov_ss_bit : 0));
}

void set_shadow(SmmState &state, u8 shadow)
{
	// Never both, nor with a trap that is due after the instruction.
	if (state.rflags & X86_EFLAGS_TF)
		return;
	state.after_mov_ss = shadow & mov_ss_bit;
	state.after_sti = shadow & sti_bit && !state.after_mov_ss && state.rflags & X86_EFLAGS_IF;
}

// --- with long mode: APM vol. 2, table 10-1, as revision 0x64 ------------------------------------------

namespace wide
{

constexpr u32 tables = 0xfe00, table_size = 16; // ES, CS, SS, DS, FS, GS, GDTR, LDTR, IDTR, TR
constexpr u32 gdtr = 0xfe60, ldtr = 0xfe70, idtr = 0xfe80, tr = 0xfe90;
constexpr u32 halt = 0xfec9, shadow = 0xfecb, efer = 0xfed0, revision = 0xfefc, base = 0xff00, cr4 = 0xff48,
	      cr3 = 0xff50, cr0 = 0xff58, dr7 = 0xff60, dr6 = 0xff68, rflags = 0xff70, rip = 0xff78,
	      last_gpr = 0xff80; // R15; RAX comes last
constexpr u32 revision_number = 0x00020064;

constexpr u32 place_of(SegmentName name)
{
	switch (name) {
	case SegmentName::ldtr: return ldtr;
	case SegmentName::tr: return tr;
	default: return tables + static_cast<u8>(name) * table_size;
	}
}

void store(const SmmState &state, Area &area)
{
	const Place place{area};
	for (unsigned i = 0; i < segment_count; ++i) {
		const Segment &segment = state.segments[i];
		const u32 at = place_of(static_cast<SegmentName>(i));
		place.put<u16>(at, segment.selector);
		place.put<u16>(at + 2, static_cast<u16>(stored(segment.rights)));
		place.put<u32>(at + 4, segment.limit);
		place.put<u64>(at + 8, segment.base);
	}
	for (const auto &[at, table] : {std::pair{gdtr, state.gdt}, {idtr, state.idt}}) {
		place.put<u16>(at + 4, table.limit);
		place.put<u64>(at + 8, table.base);
	}
	for (unsigned i = 0; i < state.gprs.values.size(); ++i)
		place.put<u64>(last_gpr + (15 - i) * 8, state.gprs.values[i]);
	place.put<u8>(halt, state.halted);
	place.put<u8>(shadow, shadow_of(state));
	place.put<u64>(efer, state.efer);
	place.put<u32>(revision, revision_number);
	place.put<u32>(base, state.base);
	place.put<u64>(cr4, state.cr4);
	place.put<u64>(cr3, state.cr3);
	place.put<u64>(cr0, state.cr0);
	place.put<u64>(dr7, state.dr7);
	place.put<u64>(dr6, state.dr6);
	place.put<u64>(rflags, state.rflags);
	place.put<u64>(rip, state.rip);
}

SmmState load(const Area &area)
{
	const Place place{area};
	SmmState state{.rip = place.get<u64>(rip),
		.rflags = place.get<u64>(rflags),
		.cr0 = place.get<u64>(cr0),
		.cr3 = place.get<u64>(cr3),
		.cr4 = place.get<u64>(cr4),
		.efer = place.get<u64>(efer),
		.dr6 = place.get<u64>(dr6),
		.dr7 = place.get<u64>(dr7),
		.gdt = {place.get<u64>(gdtr + 8), place.get<u16>(gdtr + 4)},
		.idt = {place.get<u64>(idtr + 8), place.get<u16>(idtr + 4)},
		.base = place.get<u32>(base),
		.halted = (place.get<u8>(halt) & 1) != 0};
	for (unsigned i = 0; i < segment_count; ++i) {
		const u32 at = place_of(static_cast<SegmentName>(i));
		state.segments[i] = loaded(place.get<u16>(at), place.get<u32>(at + 4), place.get<u64>(at + 8),
			place.get<u16>(at + 2));
	}
	for (unsigned i = 0; i < state.gprs.values.size(); ++i)
		state.gprs.values[i] = place.get<u64>(last_gpr + (15 - i) * 8);
	set_shadow(state, place.get<u8>(shadow));
	return state;
}

} // namespace wide

// --- without: SDM vol. 3, table 31-1, and what it calls reserved as these processors have it -----------

namespace narrow
{

constexpr u32 cr0 = 0x7ffc, cr3 = 0x7ff8, eflags = 0x7ff4, eip = 0x7ff0, gprs = 0x7fd0, dr6 = 0x7fcc, dr7 = 0x7fc8,
	      tr = 0x7fc4, ldtr = 0x7fc0, selectors = 0x7fa8, // ES, CS, SS, DS, FS, GS
	      gdt_base = 0x7f74, gdt_limit = 0x7f70, idt_base = 0x7f58, idt_limit = 0x7f54, shadow = 0x7f1a,
	      cr4 = 0x7f14, halt = 0x7f02, revision = 0x7efc, base = 0x7ef8;
constexpr u32 revision_number = 0x00020000;

constexpr u32 selector_of(SegmentName name)
{
	switch (name) {
	case SegmentName::ldtr: return ldtr;
	case SegmentName::tr: return tr;
	default: return selectors + static_cast<u8>(name) * 4;
	}
}

// Rights, limit and base, with four bytes each.
constexpr u32 cache_of(SegmentName name)
{
	constexpr u32 first = 0x7f84, fourth = 0x7f2c, size = 12;
	const u32 number = static_cast<u8>(name);
	switch (name) {
	case SegmentName::ldtr: return 0x7f78;
	case SegmentName::tr: return 0x7f5c;
	default: return number < 3 ? first + number * size : fourth + (number - 3) * size;
	}
}

void store(const SmmState &state, Area &area)
{
	const Place place{area};
	const auto put = [&](u32 offset, u64 value) { place.put<u32>(offset, static_cast<u32>(value)); };
	for (unsigned i = 0; i < segment_count; ++i) {
		const auto name = static_cast<SegmentName>(i);
		const Segment &segment = state.segments[i];
		const u32 cache = cache_of(name);
		put(selector_of(name), segment.selector);
		put(cache, stored(segment.rights) << 8); // as in a descriptor's second half
		put(cache + 4, segment.limit);
		put(cache + 8, segment.base);
	}
	put(gdt_base, state.gdt.base);
	put(gdt_limit, state.gdt.limit);
	put(idt_base, state.idt.base);
	put(idt_limit, state.idt.limit);
	for (unsigned i = 0; i < 8; ++i)
		put(gprs + i * 4, state.gprs.values[i]);
	place.put<u16>(halt, state.halted);
	place.put<u8>(shadow, shadow_of(state));
	put(cr0, state.cr0);
	put(cr3, state.cr3);
	put(cr4, state.cr4);
	put(eflags, state.rflags);
	put(eip, state.rip);
	put(dr6, state.dr6);
	put(dr7, state.dr7);
	put(revision, revision_number);
	put(base, state.base);
}

SmmState load(const Area &area)
{
	const Place place{area};
	const auto get = [&](u32 offset) { return place.get<u32>(offset); };
	SmmState state{.rip = get(eip),
		.rflags = get(eflags),
		.cr0 = get(cr0),
		.cr3 = get(cr3),
		.cr4 = get(cr4),
		.dr6 = get(dr6),
		.dr7 = get(dr7),
		.gdt = {get(gdt_base), static_cast<u16>(get(gdt_limit))},
		.idt = {get(idt_base), static_cast<u16>(get(idt_limit))},
		.base = get(base),
		.halted = (place.get<u16>(halt) & 1) != 0};
	for (unsigned i = 0; i < segment_count; ++i) {
		const auto name = static_cast<SegmentName>(i);
		const u32 cache = cache_of(name);
		state.segments[i] = loaded(static_cast<u16>(get(selector_of(name))), get(cache + 4),
			get(cache + 8), get(cache) >> 8);
	}
	for (unsigned i = 0; i < 8; ++i)
		state.gprs.values[i] = get(gprs + i * 4);
	set_shadow(state, place.get<u8>(shadow));
	return state;
}

} // namespace narrow

constexpr bool canonical(u64 address)
{
	return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address;
}

} // namespace

void store(const SmmState &state, Layout layout, Area &area)
{
	area.fill(0);
	layout == Layout::wide ? wide::store(state, area) : narrow::store(state, area);
}

SmmState load(const Area &area, Layout layout)
{
	SmmState state = layout == Layout::wide ? wide::load(area) : narrow::load(area);
	constexpr u64 rflags_defined = 0x3f7fd5;
	constexpr u64 dr6_writable = 0xe00f, dr6_ones = 0xffff0ff0, dr7_writable = 0xffff2bff, dr7_ones = 0x400;
	state.rflags = (state.rflags & rflags_defined) | X86_EFLAGS_FIXED;
	state.cr0 |= X86_CR0_ET;
	state.cr0 &= cr0_defined | bits(63, 32);
	// Long mode is active or not by what the others say.
	state.efer = efer_after_cr0(state.efer, state.cr0);
	state.dr6 = (state.dr6 & dr6_writable) | dr6_ones;
	state.dr7 = (state.dr7 & dr7_writable) | dr7_ones;
	for (const auto name : {SegmentName::es, SegmentName::cs, SegmentName::ss, SegmentName::ds})
		state[name].base = static_cast<u32>(state[name].base);
	const bool code64 = state.efer & efer::lma && state[SegmentName::cs].rights.long_mode();
	if (!code64)
		state.rip = static_cast<u32>(state.rip);
	return state;
}

bool possible(const SmmState &state, const Limits &limits)
{
	const AccessRights cs = state[SegmentName::cs].rights;
	const bool long_mode = state.efer & efer::lma;
	if (!consistent({.cr0 = state.cr0,
		    .cr3 = state.cr3,
		    .cr4 = state.cr4,
		    .efer = state.efer,
		    .cr4_allowed = limits.cr4_allowed,
		    .physical_bits = limits.physical_bits,
		    .cs_long = cs.long_mode(),
		    .cs_default_big = cs.big()}))
		return false;
	// Outside long mode too the entry looks at what CR3 cannot hold.
	if (state.efer & ~limits.efer_allowed || state.cr3 & bits(63, limits.physical_bits) ||
		(state.cr4 & X86_CR4_PCIDE && !long_mode))
		return false;
	if (state.rflags & X86_EFLAGS_VM && (long_mode || !(state.cr0 & X86_CR0_PE)))
		return false;
	const auto base_canonical = [&](SegmentName name) { return canonical(state[name].base); };
	return canonical(state.rip) && canonical(state.gdt.base) && canonical(state.idt.base) &&
	       base_canonical(SegmentName::fs) && base_canonical(SegmentName::gs) &&
	       base_canonical(SegmentName::ldtr) && base_canonical(SegmentName::tr);
}

} // namespace kvmpp::x86::smm
