// SPDX-License-Identifier: GPL-2.0-only
// The state that system management mode saves: what lies where, and what RSM takes from it.
#include <cstring>
#include <gtest/gtest.h>
#include "x86/control_registers.h"
#include "x86/smm.h"

namespace kvmpp::tests
{
namespace
{

using namespace x86;
using smm::Area;
using smm::Layout;

template <class T>
T at(const Area &area, u32 offset)
{
	T value;
	std::memcpy(&value, &area[offset - smm::area_offset], sizeof(T));
	return value;
}

template <class T>
void put(Area &area, u32 offset, T value)
{
	std::memcpy(&area[offset - smm::area_offset], &value, sizeof(T));
}

// Every part has another value, and one that a processor can have.
SmmState some_state(bool wide)
{
	SmmState state{.rip = 0x12345678,
		.rflags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_ZF,
		.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET | X86_CR0_NE,
		.cr3 = 0x5000,
		.cr4 = X86_CR4_PAE | X86_CR4_PGE,
		.efer = wide ? efer::lme | efer::lma | efer::nx : 0,
		.dr6 = 0xffff0ff1,
		.dr7 = 0x401,
		.gdt = {0x11000, 0x1ff},
		.idt = {0x22000, 0xfff},
		.base = 0xa0000,
		.halted = true,
		.after_sti = true};
	for (unsigned i = 0; i < state.gprs.values.size(); ++i)
		state.gprs.values[i] = i < 8 || wide ? 0x10 + i : 0;
	for (unsigned i = 0; i < segment_count; ++i)
		state.segments[i] = {static_cast<u16>(8 * i), 0xfffff + (i << 20 | 0xfff), 0x1000 * i, {0xc093}};
	for (auto &segment : state.segments)
		segment.limit |= 0xfff;
	state[SegmentName::cs].rights = {wide ? 0xa09bu : 0xc09bu};
	state[SegmentName::tr] = {0x40, 0x67, 0x9000, {0x8b}};
	state[SegmentName::ldtr] = {0, 0, 0, {0x02 | AccessRights::unusable_bit}};
	return state;
}

constexpr smm::Limits limits{.cr4_allowed = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE,
	.efer_allowed = efer::lme | efer::lma | efer::nx | efer::sce,
	.physical_bits = 40};

TEST(SmmState, ComesBackAsItWasSaved)
{
	for (const bool wide : {false, true}) {
		const Layout layout = wide ? Layout::wide : Layout::narrow;
		const SmmState state = some_state(wide);
		Area area;
		smm::store(state, layout, area);
		EXPECT_TRUE(smm::load(area, layout) == state) << (wide ? "wide" : "narrow");
		EXPECT_TRUE(smm::possible(state, limits));
	}
}

// AMD64 Architecture Programmer's Manual vol. 2, table 10-1.
TEST(SmmState, TheLayoutWithLongMode)
{
	Area area;
	smm::store(some_state(true), Layout::wide, area);
	EXPECT_EQ(at<u16>(area, 0xfe10), 8);	      // CS
	EXPECT_EQ(at<u16>(area, 0xfe12), 0xa09b);
	EXPECT_EQ(at<u64>(area, 0xfe58), 0x5000u);    // GS base
	EXPECT_EQ(at<u16>(area, 0xfe64), 0x1ff);      // GDTR limit
	EXPECT_EQ(at<u64>(area, 0xfe68), 0x11000u);
	EXPECT_EQ(at<u16>(area, 0xfe72), 2);	      // LDTR, not present
	EXPECT_EQ(at<u64>(area, 0xfe88), 0x22000u);   // IDTR
	EXPECT_EQ(at<u64>(area, 0xfe98), 0x9000u);    // TR
	EXPECT_EQ(at<u8>(area, 0xfec9), 1);	      // auto-halt restart
	EXPECT_EQ(at<u64>(area, 0xfed0), efer::lme | efer::lma | efer::nx);
	EXPECT_EQ(at<u32>(area, 0xfefc), 0x00020064u); // revision
	EXPECT_EQ(at<u32>(area, 0xff00), 0xa0000u);
	EXPECT_EQ(at<u64>(area, 0xff48), u64{X86_CR4_PAE | X86_CR4_PGE});
	EXPECT_EQ(at<u64>(area, 0xff50), 0x5000u);
	EXPECT_EQ(at<u64>(area, 0xff60), 0x401u);
	EXPECT_EQ(at<u64>(area, 0xff78), 0x12345678u);
	EXPECT_EQ(at<u64>(area, 0xff80), 0x1fu);      // R15
	EXPECT_EQ(at<u64>(area, 0xffd8), 0x14u);      // RSP
	EXPECT_EQ(at<u64>(area, 0xfff8), 0x10u);      // RAX
}

// SDM vol. 3, table 31-1.
TEST(SmmState, TheLayoutWithoutLongMode)
{
	constexpr u32 smm_half = 0x8000; // the manual counts from there
	Area area;
	smm::store(some_state(false), Layout::narrow, area);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7ffc), u32{X86_CR0_PE | X86_CR0_PG | X86_CR0_ET | X86_CR0_NE});
	EXPECT_EQ(at<u32>(area, smm_half + 0x7ff8), 0x5000u);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7ff0), 0x12345678u);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fec), 0x17u); // EDI
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fd0), 0x10u); // EAX
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fcc), 0xffff0ff1u);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fc4), 0x40u); // TR
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fac), 8u);    // CS
	EXPECT_EQ(at<u32>(area, smm_half + 0x7fa8), 0u);    // ES
	EXPECT_EQ(at<u16>(area, smm_half + 0x7f02), 1);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7efc), 0x00020000u);
	EXPECT_EQ(at<u32>(area, smm_half + 0x7ef8), 0xa0000u);
}

TEST(SmmState, WhatIsReservedIsAsAProcessorHasIt)
{
	Area area;
	smm::store(some_state(true), Layout::wide, area);
	put<u64>(area, 0xff70, ~u64{0}); // RFLAGS
	put<u64>(area, 0xff68, ~u64{0}); // DR6
	put<u64>(area, 0xff60, ~u64{0}); // DR7
	put<u64>(area, 0xff58, at<u64>(area, 0xff58) & ~u64{X86_CR0_ET | X86_CR0_PG});
	put<u64>(area, 0xff78, ~u64{0}); // RIP
	put<u64>(area, 0xfe08, ~u64{0}); // the base of ES
	put<u16>(area, 0xfe02, 0xffff);
	put<u32>(area, 0xfe04, 0);
	put<u8>(area, 0xfecb, 3);
	const SmmState state = smm::load(area, Layout::wide);
	EXPECT_EQ(state.rflags, 0x3f7fd7u);
	EXPECT_EQ(state.dr6, 0xffffeffful & ~0x1000ul);
	EXPECT_EQ(state.dr7, 0xffff2ffful);
	EXPECT_TRUE(state.cr0 & X86_CR0_ET);
	EXPECT_FALSE(state.efer & efer::lma) << "without paging long mode is not active";
	EXPECT_EQ(state.rip, 0xffffffffu);
	EXPECT_EQ(state[SegmentName::es].base, 0xffffffffu);
	EXPECT_EQ(state[SegmentName::es].rights.raw, 0xf0ffu);
	EXPECT_EQ(state[SegmentName::es].limit, 0xfffu) << "in pages";
	EXPECT_FALSE(state.after_sti || state.after_mov_ss) << "a single step is due";
	put<u64>(area, 0xff70, u64{X86_EFLAGS_IF});
	EXPECT_TRUE(smm::load(area, Layout::wide).after_mov_ss);
	EXPECT_FALSE(smm::load(area, Layout::wide).after_sti) << "never both";
}

TEST(SmmState, WhatNoProcessorCanBeIn)
{
	const auto spoilt = [](auto spoil, bool wide = true) {
		SmmState state = some_state(wide);
		spoil(state);
		return !smm::possible(state, limits);
	};
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr0 &= ~u64{X86_CR0_PE}; }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr0 |= X86_CR0_NW; }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr0 |= bit(40); }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr3 = bit(41); }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr3 = bit(41); }, false));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr4 |= X86_CR4_SMEP; })) << "not in CPUID";
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr4 &= ~u64{X86_CR4_PAE}; }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.cr4 |= X86_CR4_PCIDE; }, false));
	EXPECT_FALSE(spoilt([](SmmState &s) { s.cr4 |= X86_CR4_PCIDE; }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.efer |= bit(2); }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.rflags |= X86_EFLAGS_VM; }));
	EXPECT_FALSE(spoilt([](SmmState &s) { s.rflags |= X86_EFLAGS_VM; }, false));
	EXPECT_TRUE(spoilt([](SmmState &s) { s[SegmentName::cs].rights.raw |= 1 << 14; }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.rip = bit(47); }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.gdt.base = bit(47); }));
	EXPECT_TRUE(spoilt([](SmmState &s) { s.idt.base = bit(63); }));
	for (const auto name : {SegmentName::fs, SegmentName::gs, SegmentName::ldtr, SegmentName::tr})
		EXPECT_TRUE(spoilt([=](SmmState &s) { s[name].base = bit(50); }));
}

} // namespace
} // namespace kvmpp::tests
