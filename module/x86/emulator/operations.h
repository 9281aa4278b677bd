// SPDX-License-Identifier: GPL-2.0-only
// What the opcode maps point to: one function per instruction, or per form that differs.
#pragma once

#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator::op
{

// moves and flags
Handler undefined, unknown, nop, mov, movzx, movsx, lea, cmovcc, setcc, cbw, cwd, xlat, salc, sahf,
	lahf, cmc, clc, stc, cld, std_, clac, stac;

// arithmetic, logic, exchanges
Handler add, adc, sub, sbb, cmp, and_, or_, xor_, test, inc, dec, neg, not_, adcx, adox, xadd, xchg,
	xchg_accumulator, cmpxchg, cmpxchg_pair;

// multiplication, division, decimal adjustment
Handler mul, imul, imul_two, imul_three, div, idiv, mulx, daa, das, aaa, aas, aam, aad;

// shifts and rotations
Handler shl, shr, sar, rol, ror, rcl, rcr, shld, shrd, shlx, shrx, sarx, rorx;

// bits
Handler bt, bts, btr, btc, bsf, bsr, tzcnt, lzcnt, popcnt, bswap, movbe, crc32, andn, blsr, blsmsk,
	blsi, bextr, bzhi, pdep, pext;

// strings
Handler movs, stos, lods, cmps, scas;

// ports
Handler in, out, ins, outs;

// stack
Handler push, push_segment, pop, pop_rm, pusha, popa, enter, leave, pushf, popf;

// near control flow
Handler jmp, jmp_relative, jcc, call, call_relative, ret, loop, loope, loopne, jcxz, bound;

// far control flow
Handler jmp_far, call_far, jmp_far_memory, call_far_memory, ret_far, iret, int_n, int3, into, int1,
	syscall, sysret, sysenter, sysexit;

// segment registers and selectors
Handler mov_segment, pop_segment, les, lds, lss, lfs, lgs, lar, lsl, verr, verw, arpl, sldt, str,
	lldt, ltr;

// system
Handler sgdt, sidt, lgdt, lidt, smsw, lmsw, clts, mov_from_control, mov_to_control, mov_from_debug,
	mov_to_debug, rdmsr, wrmsr, rdtsc, rdtscp, rdpid, rdpmc, cpuid, xgetbv, xsetbv, rdfsbase,
	rdgsbase, wrfsbase, wrgsbase, swapgs, cli, sti, hlt, monitor, mwait, invlpg, wbinvd,
	flush_line, hypercall, rsm;

// vectors
Handler move_vector, move_low, merge_low, load_low_half, load_high_half, store_high_half, movddup,
	movsldup, movshdup, store_masked;

// x87 and SSE control
Handler fxsave, fxrstor, stmxcsr, ldmxcsr, fwait, fnop, fninit, fnclex, fnstcw, fnstsw, fldcw, emms;

} // namespace kvmpp::x86::emulator::op
