// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/differential/emulated.h"

#include <cpuid.h>
#include <cstring>

namespace kvmpp::x86::emulator::differential
{

namespace
{

// A kernel's GDT as far as programs can know it: flat code of 32 bits, data, code of 64 bits.
constexpr u64 gdt_base = 0xffff'8880'0000'0000;
constexpr u64 user_descriptors[] = {
	0x00cf'fb00'0000'ffff, 0x00cf'f300'0000'ffff, 0x00af'fb00'0000'ffff};
constexpr u64 first_user_descriptor = 0x20;
constexpr u16 gdt_limit = 0x7f;

bool in_arena(u64 address)
{
	// Nothing is mapped in the last page of user space either.
	return address - arena < arena_size || address - (bit(47) - page_size) < page_size;
}

Segment flat(u16 selector, u32 rights)
{
	return {selector, 0xffff'ffff, 0, {rights}};
}

} // namespace

void take_changes(Changed &changed, u8 *memory, const u8 *image)
{
	changed.from = changed.size = 0;
	u32 first = 0, last = data_size;
	if (memcmp(memory, image, data_size) == 0)
		return;
	while (memory[first] == image[first])
		++first;
	while (memory[last - 1] == image[last - 1])
		--last;
	changed.from = first;
	changed.size = last - first;
	memcpy(changed.bytes, memory + first, changed.size);
	memcpy(memory + first, image + first, changed.size);
}

EmulatedSide::EmulatedSide(const u8 (&image)[image_size], const Surroundings &surroundings)
	: image_{image}, memory_{new u8[image_size]}
{
	memcpy(memory_.get(), image, image_size);
	memcpy(descriptors_, user_descriptors, sizeof(descriptors_));
	memset(code_, 0xcc, sizeof(code_));
	guest_.regions = {
		{.base = data_pages, .size = data_size, .bytes = memory_.get(), .execute = false},
		{.base = constant_page,
			.size = page_size,
			.bytes = memory_.get() + data_size,
			.write = false,
			.execute = false},
		{.base = code_page, .size = page_size, .bytes = code_, .write = false},
		{.base = gdt_base + first_user_descriptor,
			.size = sizeof(descriptors_),
			.bytes = descriptors_,
			.user = false},
	};
	asm("fxsave64 %0" : "=m"(guest_.extended));
	guest_.current_cpl = 3;
	guest_.gdtr = {gdt_base, gdt_limit};
	guest_.efer_value = efer::sce | efer::lme | efer::lma | efer::nx;
	guest_.cr[0] = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
		       X86_CR0_PG;
	guest_.cr[4] = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE |
		       X86_CR4_FSGSBASE | (surroundings.wide_addresses ? X86_CR4_LA57 : 0);
	for (u32 leaf : {0u, 1u, 2u, 7u, 0x80000000u, 0x80000001u, 0x80000002u, 0x80000003u,
		     0x80000004u, 0x80000008u}) {
		std::array<u32, 4> r{};
		__get_cpuid_count(leaf, 0, &r[0], &r[1], &r[2], &r[3]);
		guest_.cpuid_leaves[leaf] = r;
	}
	if (guest_.cpuid_leaves[1][2] & bit(27)) {
		u32 low = 0, high = 0;
		asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
		guest_.xcr0_value = u64{high} << 32 | low;
	}
}

void EmulatedSide::load(const State &state)
{
	using enum SegmentName;
	const Registers64 &from = state.registers;
	memcpy(guest_.gpr.values.data(), from.gpr, sizeof(from.gpr));
	guest_.rip = from.rip;
	guest_.rflags = from.rflags;
	for (u8 name = 0; name < segment_count; ++name)
		guest_.segments[name] = {0, 0, 0, {AccessRights::unusable_bit}};
	const auto set = [this](SegmentName name, const Segment &segment) {
		guest_.segments[static_cast<u8>(name)] = segment;
	};
	set(cs, flat(0x33, 0xa0fb));
	set(ss, flat(0x2b, 0xc0f3));
	guest_.segments[static_cast<u8>(fs)].base = from.fs_base;
	guest_.segments[static_cast<u8>(gs)].base = from.gs_base;
	memcpy(memory_.get() + state.poke_at, state.poke, state.poke_size);
	if (state.uses_extended) {
		const u32 mask = guest_.extended.mxcsr_mask;
		memcpy(&guest_.extended, state.extended.legacy, 512);
		memcpy(guest_.upper, state.extended.upper, sizeof(guest_.upper));
		guest_.extended.mxcsr_mask = mask;
	}
	guest_.raised.clear();
}

void EmulatedSide::take(Ending &result) const
{
	Registers64 &to = result.registers;
	memcpy(to.gpr, guest_.gpr.values.data(), sizeof(to.gpr));
	to.rip = guest_.rip;
	to.rflags = guest_.rflags;
	const auto at = [this](SegmentName name) { return guest_.segments[static_cast<u8>(name)]; };
	to.fs_base = at(SegmentName::fs).base;
	to.gs_base = at(SegmentName::gs).base;
	to.ds = at(SegmentName::ds).selector;
	to.es = at(SegmentName::es).selector;
	memcpy(result.extended.legacy, &guest_.extended, 512);
	memcpy(result.extended.upper, guest_.upper, sizeof(guest_.upper));
	take_changes(result.changed, memory_.get(), image_);
}

EmulatedSide::Verdict EmulatedSide::run(State &state, Ending &result)
{
	constexpr unsigned most_steps = 64;
	load(state);
	const u64 start = state.registers.rip, next = start + state.code_size;
	const u64 offset = start - code_page;
	const u64 placed = std::min<u64>(state.code_size, page_size - offset);
	memcpy(code_ + offset, state.code, placed);
	Outcome<> outcome = guest_.step();
	for (unsigned steps = 1; outcome && !guest_.executed.retired && steps < most_steps; ++steps)
		outcome = guest_.step();
	memset(code_ + offset, 0xcc, placed);

	take(result);
	state.falls_through = true;
	result.vector = Ending::no_vector;
	result.error_code = 0;
	result.address = 0;
	const auto segment_changed = [this](SegmentName name, u16 selector) {
		return guest_.segments[static_cast<u8>(name)].selector != selector;
	};
	if (!outcome) {
		if (outcome.error() != Stop::exception)
			return Verdict::unknown;
		const Exception &exception = guest_.raised.back();
		result.vector = static_cast<u8>(exception.vector);
		result.error_code = exception.error_code;
		result.address = exception.address;
		if (exception.vector == Vector::page_fault && !in_arena(exception.address))
			return Verdict::leaves_the_arena;
		return Verdict::comparable;
	}
	if (!guest_.executed.retired)
		return Verdict::endless;
	state.falls_through = guest_.rip == next;
	// A branch back onto the instruction, or onto what follows it, would go on.
	const bool into_itself = !state.falls_through && guest_.rip - start < state.code_size;
	if (guest_.rflags & X86_EFLAGS_TF || !in_arena(guest_.rip) || into_itself ||
		segment_changed(SegmentName::ss, 0x2b) || segment_changed(SegmentName::cs, 0x33) ||
		segment_changed(SegmentName::fs, 0) || segment_changed(SegmentName::gs, 0))
		return Verdict::leaves_the_arena;
	return Verdict::comparable;
}

} // namespace kvmpp::x86::emulator::differential
