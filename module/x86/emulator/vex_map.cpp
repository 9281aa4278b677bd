// SPDX-License-Identifier: GPL-2.0-only
// The VEX-encoded opcode maps: SDM vol. 2, tables, entries with a leading v, and
// group 17.
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

namespace
{

using namespace op;
using namespace rule;
using namespace shape;
using when::mem, when::reg, when::np, when::p66, when::pf2, when::pf3, when::l0, when::l1;

// clang-format off
constexpr Row rows_0f[] = {
	{0x10_x, np | p66, move_vector, {Vx, Wx}, avx},
	{0x10_x, pf3 | mem, move_low, {Vd, Wd}, avx},
	{0x10_x, pf3, merge_low, {Vd, Hdq, Wd}, avx},
	{0x10_x, pf2 | mem, move_low, {Vq, Wq}, avx},
	{0x10_x, pf2, merge_low, {Vq, Hdq, Wq}, avx},
	{0x11_x, np | p66, move_vector, {Wx, Vx}, avx},
	{0x11_x, pf3 | mem, move_low, {Wd, Vd}, avx},
	{0x11_x, pf3, merge_low, {Wd, Hdq, Vd}, avx},
	{0x11_x, pf2 | mem, move_low, {Wq, Vq}, avx},
	{0x11_x, pf2, merge_low, {Wq, Hdq, Vq}, avx},
	{0x12_x, np | l0, load_low_half, {Vdq, Hdq, Wq}, avx},
	{0x12_x, p66 | mem | l0, load_low_half, {Vdq, Hdq, Wq}, avx},
	{0x12_x, pf3, movsldup, {Vx, Wx}, avx},
	{0x12_x, pf2 | l0, movddup, {Vdq, Wq}, avx},
	{0x12_x, pf2 | l1, movddup, {Vx, Wx}, avx},
	{0x13_x, np | p66 | mem | l0, move_low, {Wq, Vq}, avx},
	{0x16_x, np | l0, load_high_half, {Vdq, Hdq, Wq}, avx},
	{0x16_x, p66 | mem | l0, load_high_half, {Vdq, Hdq, Wq}, avx},
	{0x16_x, pf3, movshdup, {Vx, Wx}, avx},
	{0x17_x, np | p66 | mem | l0, store_high_half, {Wq, Vdq}, avx},
	{0x28_x, np | p66, move_vector, {Vx, Wx}, avx | aligned},
	{0x29_x, np | p66, move_vector, {Wx, Vx}, avx | aligned},
	{0x2b_x, np | p66 | mem, move_vector, {Wx, Vx}, avx | aligned},
	{0x6e_x, p66 | l0, move_low, {Vdq, Ey}, manual | avx},
	{0x6f_x, p66, move_vector, {Vx, Wx}, avx | aligned},
	{0x6f_x, pf3, move_vector, {Vx, Wx}, avx},
	{0x7e_x, p66 | l0, move_low, {Ey, Vq}, manual | avx},
	{0x7e_x, pf3 | l0, move_low, {Vq, Wq}, avx},
	{0x7f_x, p66, move_vector, {Wx, Vx}, avx | aligned},
	{0x7f_x, pf3, move_vector, {Wx, Vx}, avx},
	{0xae_x / 2, np | mem | l0, ldmxcsr, {Ed}, avx},
	{0xae_x / 3, np | mem | l0, stmxcsr, {Ed}, store | avx},
	{0xd6_x, p66 | l0, move_low, {Wq, Vq}, avx},
	{0xe7_x, p66 | mem, move_vector, {Wx, Vx}, avx | aligned},
	{0xf0_x, pf2 | mem, move_vector, {Vx, Wx}, avx},
	{0xf7_x, p66 | reg | l0, store_masked, {Vdq, Wdq}, avx},
};

constexpr Row rows_0f38[] = {
	{0x2a_x, p66 | mem, move_vector, {Vx, Wx}, avx | aligned},
	{0xf2_x, np | l0, andn, {Gy, By, Ey}, store, Feature::bmi1},
	{0xf2_x, undefined},
	{0xf3_x / 1, np | l0, blsr, {By, Ey}, store, Feature::bmi1},
	{0xf3_x / 2, np | l0, blsmsk, {By, Ey}, store, Feature::bmi1},
	{0xf3_x / 3, np | l0, blsi, {By, Ey}, store, Feature::bmi1},
	{0xf3_x, undefined},
	{0xf5_x, np | l0, bzhi, {Gy, Ey, By}, store, Feature::bmi2},
	{0xf5_x, pf3 | l0, pext, {Gy, By, Ey}, store, Feature::bmi2},
	{0xf5_x, pf2 | l0, pdep, {Gy, By, Ey}, store, Feature::bmi2},
	{0xf5_x, undefined},
	{0xf6_x, pf2 | l0, mulx, {Gy, By, Ey}, store, Feature::bmi2},
	{0xf6_x, undefined},
	{0xf7_x, np | l0, bextr, {Gy, Ey, By}, store, Feature::bmi1},
	{0xf7_x, p66 | l0, shlx, {Gy, Ey, By}, store, Feature::bmi2},
	{0xf7_x, pf3 | l0, sarx, {Gy, Ey, By}, store, Feature::bmi2},
	{0xf7_x, pf2 | l0, shrx, {Gy, Ey, By}, store, Feature::bmi2},
};

constexpr Row rows_0f3a[] = {
	{0xf0_x, pf2 | l0, rorx, {Gy, Ey, Ib}, store, Feature::bmi2},
	{0xf0_x, undefined},
};
// clang-format on

} // namespace

constinit const OpcodeMap vex_0f{rows_0f};
constinit const OpcodeMap vex_0f38{rows_0f38};
constinit const OpcodeMap vex_0f3a{rows_0f3a};

} // namespace kvmpp::x86::emulator
