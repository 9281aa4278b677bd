// SPDX-License-Identifier: GPL-2.0-only
// The opcode maps behind 0F, 0F 38 and 0F 3A: SDM vol. 2, tables, with groups 6 to 9 and
// 15 of table A-6.
#include "x86/emulator/operations.h"
#include "x86/emulator/plain_move.h"

namespace kvmpp::x86::emulator
{

namespace
{

using namespace op;
using namespace rule;
using namespace shape;
using when::mem, when::reg, when::np, when::p66, when::pf2, when::pf3;

// clang-format off
constexpr Row rows[] = {
	// Group 6
	{0x00_x / 0, mem, sldt, {Ew}, store | pm | umip},
	{0x00_x / 0, sldt, {Ev}, store | pm | umip},
	{0x00_x / 1, mem, str, {Ew}, store | pm | umip},
	{0x00_x / 1, str, {Ev}, store | pm | umip},
	{0x00_x / 2, lldt, {Ew}, pm | cpl0},
	{0x00_x / 3, ltr, {Ew}, pm | cpl0},
	{0x00_x / 4, verr, {Ew}, pm},
	{0x00_x / 5, verw, {Ew}, pm},
	{0x00_x, undefined},

	// Group 7
	{0x01_x / 0, mem, sgdt, {M}, umip},
	{0x01_x / 1, mem, sidt, {M}, umip},
	{0x01_x / 2, mem, lgdt, {M}, f64 | cpl0},
	{0x01_x / 3, mem, lidt, {M}, f64 | cpl0},
	{0x01_x / 4, mem, smsw, {Ew}, store | umip},
	{0x01_x / 4, smsw, {Ev}, store | umip},
	{0x01_x / 6, lmsw, {Ew}, cpl0},
	{0x01_x / 7, mem, invlpg, {Mb}, cpl0},
	{0x01_x / 0 / 1, hypercall}, // VMCALL
	{0x01_x / 0 / 2, undefined}, // VMLAUNCH, VMRESUME, VMXOFF: there is no nested VMX
	{0x01_x / 0 / 3, undefined},
	{0x01_x / 0 / 4, undefined},
	{0x01_x / 1 / 0, monitor, {}, cpl0_ud},
	{0x01_x / 1 / 1, mwait, {}, cpl0_ud},
	{0x01_x / 1 / 2, clac, {}, cpl0_ud, Feature::smap},
	{0x01_x / 1 / 3, stac, {}, cpl0_ud, Feature::smap},
	{0x01_x / 2 / 0, np, xgetbv},
	{0x01_x / 2 / 1, np, xsetbv},
	{0x01_x / 3 / 1, hypercall}, // VMMCALL
	{0x01_x / 3, reg, undefined}, // SVM
	{0x01_x / 7 / 0, swapgs, {}, only64 | cpl0},
	{0x01_x / 7 / 1, rdtscp, {}, 0, Feature::rdtscp},

	{0x02_x, lar, {Gv, Ew}, pm | manual},
	{0x03_x, lsl, {Gv, Ew}, pm | manual},
	{0x04_x, undefined},
	{0x05_x, syscall, {}, only64},
	{0x06_x, clts, {}, cpl0},
	{0x07_x, sysret, {}, only64},
	{0x08_x, wbinvd, {}, cpl0}, // INVD: what was written is not lost
	{0x09_x, wbinvd, {}, cpl0},
	{0x0a_x, undefined},
	{0x0b_x, undefined}, // UD2
	{0x0c_x, undefined},
	{0x0d_x, nop, {Ev}, manual}, // PREFETCHW

	{0x10_x, np, move_vector, {Vdq, Wdq}, sse},
	{0x10_x, p66, move_vector, {Vdq, Wdq}, sse},
	{0x10_x, pf3 | mem, move_low, {Vd, Wd}, sse},
	{0x10_x, pf3, merge_low, {Vd, Wd}, sse},
	{0x10_x, pf2 | mem, move_low, {Vq, Wq}, sse},
	{0x10_x, pf2, merge_low, {Vq, Wq}, sse},
	{0x11_x, np, move_vector, {Wdq, Vdq}, sse},
	{0x11_x, p66, move_vector, {Wdq, Vdq}, sse},
	{0x11_x, pf3 | mem, move_low, {Wd, Vd}, sse},
	{0x11_x, pf3, merge_low, {Wd, Vd}, sse},
	{0x11_x, pf2 | mem, move_low, {Wq, Vq}, sse},
	{0x11_x, pf2, merge_low, {Wq, Vq}, sse},
	{0x12_x, np, load_low_half, {Vdq, Wq}, sse},
	{0x12_x, p66 | mem, load_low_half, {Vdq, Wq}, sse},
	{0x12_x, pf3, movsldup, {Vdq, Wdq}, sse | aligned},
	{0x12_x, pf2, movddup, {Vdq, Wq}, sse},
	{0x13_x, np | p66 | mem, move_low, {Wq, Vq}, sse},
	{0x16_x, np, load_high_half, {Vdq, Wq}, sse},
	{0x16_x, p66 | mem, load_high_half, {Vdq, Wq}, sse},
	{0x16_x, pf3, movshdup, {Vdq, Wdq}, sse | aligned},
	{0x17_x, np | p66 | mem, store_high_half, {Wq, Vdq}, sse},
	{to(0x18_x, 0x1f_x), nop, {Ev}, manual}, // hints

	{0x20_x, mov_from_control, {Rn, Cn}, manual},
	{0x21_x, mov_from_debug, {Rn, Dn}, manual},
	{0x22_x, mov_to_control, {Cn, Rn}, manual},
	{0x23_x, mov_to_debug, {Dn, Rn}, manual},
	{to(0x24_x, 0x27_x), undefined}, // test registers, once
	{0x28_x, np | p66, move_vector, {Vdq, Wdq}, sse | aligned},
	{0x29_x, np | p66, move_vector, {Wdq, Vdq}, sse | aligned},
	{0x2b_x, np | p66 | mem, move_vector, {Wdq, Vdq}, sse | aligned},
	{0x30_x, wrmsr, {}, cpl0},
	{0x31_x, rdtsc},
	{0x32_x, rdmsr, {}, cpl0},
	{0x33_x, rdpmc},
	{0x34_x, sysenter},
	{0x35_x, sysexit},
	{0x36_x, undefined},
	{0x37_x, undefined}, // GETSEC: there is no CR4.SMXE
	{0x39_x, undefined},
	{to(0x3b_x, 0x3f_x), undefined},
	{cc(0x40), cmovcc, {Gv, Ev}, update},

	{0x6e_x, np, move_low, {Pq, Ey}, manual | mmx},
	{0x6e_x, p66, move_low, {Vdq, Ey}, manual | sse},
	{0x6f_x, np, move_vector, {Pq, Qq}, mmx},
	{0x6f_x, p66, move_vector, {Vdq, Wdq}, sse | aligned},
	{0x6f_x, pf3, move_vector, {Vdq, Wdq}, sse},
	{0x77_x, np, emms, {}, mmx},
	{0x78_x, undefined, {Gv, Ev}, manual}, // VMREAD
	{0x79_x, undefined, {Gv, Ev}, manual}, // VMWRITE
	{0x7e_x, np, move_low, {Ey, Pq}, manual | mmx},
	{0x7e_x, p66, move_low, {Ey, Vq}, manual | sse},
	{0x7e_x, pf3, move_low, {Vq, Wq}, sse},
	{0x7f_x, np, move_vector, {Qq, Pq}, mmx},
	{0x7f_x, p66, move_vector, {Wdq, Vdq}, sse | aligned},
	{0x7f_x, pf3, move_vector, {Wdq, Vdq}, sse},

	{cc(0x80), jcc, {Jz}, f64},
	{cc(0x90), setcc, {Eb}, store},
	{0xa0_x, push_segment, {Zs}, d64},
	{0xa1_x, pop_segment, {Zs}, d64 | manual},
	{0xa2_x, cpuid},
	{0xa3_x, bt, {Ev, Gv}, manual},
	{0xa4_x, shld, {Ev, Gv, Ib}, update},
	{0xa5_x, shld, {Ev, Gv, CL}, update},
	{0xa8_x, push_segment, {Zs}, d64},
	{0xa9_x, pop_segment, {Zs}, d64 | manual},
	{0xaa_x, rsm},
	{0xab_x, bts, {Ev, Gv}, update | manual | lock},
	{0xac_x, shrd, {Ev, Gv, Ib}, update},
	{0xad_x, shrd, {Ev, Gv, CL}, update},

	// Group 15
	{0xae_x / 0, np | mem, fxsave, {M}, manual | x87},
	{0xae_x / 0, pf3 | reg, rdfsbase, {Ey}, store | only64, Feature::fsgsbase},
	{0xae_x / 1, np | mem, fxrstor, {M}, manual | x87},
	{0xae_x / 1, pf3 | reg, rdgsbase, {Ey}, store | only64, Feature::fsgsbase},
	{0xae_x / 2, np | mem, ldmxcsr, {Ed}, sse},
	{0xae_x / 2, pf3 | reg, wrfsbase, {Ey}, only64, Feature::fsgsbase},
	{0xae_x / 3, np | mem, stmxcsr, {Ed}, store | sse},
	{0xae_x / 3, pf3 | reg, wrgsbase, {Ey}, only64, Feature::fsgsbase},
	{0xae_x / 5, np | reg, nop}, // LFENCE
	{0xae_x / 6, np | reg, nop}, // MFENCE
	{0xae_x / 6, p66 | mem, flush_line, {Mb}}, // CLWB
	{0xae_x / 7, np | reg, nop}, // SFENCE
	{0xae_x / 7, np | mem, flush_line, {Mb}}, // CLFLUSH
	{0xae_x / 7, p66 | mem, flush_line, {Mb}}, // CLFLUSHOPT

	{0xaf_x, imul_two, {Gv, Ev}, update},
	{0xb0_x, cmpxchg, {Eb, Gb}, update | manual | lock},
	{0xb1_x, cmpxchg, {Ev, Gv}, update | manual | lock},
	{0xb2_x, lss, {Gv, M}, store},
	{0xb3_x, btr, {Ev, Gv}, update | manual | lock},
	{0xb4_x, lfs, {Gv, M}, store},
	{0xb5_x, lgs, {Gv, M}, store},
	{0xb6_x, movzx, {Gv, Eb}, store | plain},
	{0xb7_x, movzx, {Gv, Ew}, store | plain},
	{0xb8_x, pf3, popcnt, {Gv, Ev}, store, Feature::popcnt},
	{0xb8_x, undefined},
	{0xb9_x, undefined, {Gv, Ev}, manual}, // UD1

	// Group 8
	{0xba_x / 4, bt, {Ev, Ib}, manual},
	{0xba_x / 5, bts, {Ev, Ib}, update | manual | lock},
	{0xba_x / 6, btr, {Ev, Ib}, update | manual | lock},
	{0xba_x / 7, btc, {Ev, Ib}, update | manual | lock},
	{0xba_x, undefined},

	{0xbb_x, btc, {Ev, Gv}, update | manual | lock},
	{0xbc_x, pf3, tzcnt, {Gv, Ev}, manual},
	{0xbc_x, bsf, {Gv, Ev}, manual},
	{0xbd_x, pf3, lzcnt, {Gv, Ev}, manual},
	{0xbd_x, bsr, {Gv, Ev}, manual},
	{0xbe_x, movsx, {Gv, Eb}, store | plain | extend},
	{0xbf_x, movsx, {Gv, Ew}, store | plain | extend},
	{0xc0_x, xadd, {Eb, Gb}, update | lock},
	{0xc1_x, xadd, {Ev, Gv}, update | lock},
	{0xc3_x, np | mem, mov, {Ey, Gy}, store}, // MOVNTI

	// Group 9
	{0xc7_x / 1, mem, cmpxchg_pair, {M}, manual | lock},
	{0xc7_x / 6, mem, undefined}, // VMPTRLD, VMCLEAR, VMXON
	{0xc7_x / 7, pf3 | reg, rdpid, {En}, store, Feature::rdpid},
	{0xc7_x / 7, mem, undefined}, // VMPTRST

	{r(0xc8), bswap, {Zv}, update},
	{0xd6_x, p66, move_low, {Wq, Vq}, sse},
	{0xd6_x, pf3 | reg, move_low, {Vq, Qq}, sse | mmx}, // MOVQ2DQ
	{0xd6_x, pf2 | reg, move_low, {Pq, Wq}, sse | mmx}, // MOVDQ2Q
	{0xe7_x, np | mem, move_vector, {Qq, Pq}, mmx},
	{0xe7_x, p66 | mem, move_vector, {Wdq, Vdq}, sse | aligned},
	{0xf0_x, pf2 | mem, move_vector, {Vdq, Wdq}, sse}, // LDDQU
	{0xf7_x, np | reg, store_masked, {Pq, Qq}, mmx},
	{0xf7_x, p66 | reg, store_masked, {Vdq, Wdq}, sse},
	{0xff_x, undefined, {Gv, Ev}, manual}, // UD0
};

constexpr Row rows_38[] = {
	{0x2a_x, p66 | mem, move_vector, {Vdq, Wdq}, sse | aligned}, // MOVNTDQA
	{0x80_x, p66, undefined}, // INVEPT
	{0x81_x, p66, undefined}, // INVVPID
	{0xf0_x, pf2, crc32, {Gy, Eb}, update, Feature::sse4_2},
	{0xf0_x, np | p66 | mem, movbe, {Gv, Ev}, store, Feature::movbe},
	{0xf1_x, pf2, crc32, {Gy, Ev}, update, Feature::sse4_2},
	{0xf1_x, np | p66 | mem, movbe, {Ev, Gv}, store, Feature::movbe},
	{0xf6_x, p66, adcx, {Gy, Ey}, update, Feature::adx},
	{0xf6_x, pf3, adox, {Gy, Ey}, update, Feature::adx},
};

constexpr Row rows_3a[] = {
	{0xff_x, undefined},
};
// clang-format on

} // namespace

constinit const OpcodeMap two_byte_map{rows};
constinit const OpcodeMap map_0f38{rows_38};
constinit const OpcodeMap map_0f3a{rows_3a};
constinit const PlainForms plain_two_byte = plain_forms(rows);

} // namespace kvmpp::x86::emulator
