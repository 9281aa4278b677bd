// SPDX-License-Identifier: GPL-2.0-only
// Instructions of operating systems: descriptor tables, control and debug registers, MSRs, time,
// interrupts, caches.
#include "x86/emulator/operations.h"
#include "x86/msr.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

u32 low(const Execution &x, Gpr name)
{
	return static_cast<u32>(x.gpr[name]);
}

// EDX:EAX.
void set_pair(Execution &x, u64 value)
{
	x.set(Gpr::rax, value, 4);
	x.set(Gpr::rdx, value >> 32, 4);
}

u64 pair(const Execution &x)
{
	return u64{low(x, Gpr::rdx)} << 32 | low(x, Gpr::rax);
}

// A limit of 2 bytes, then a base of 8 in 64-bit mode and 4 elsewhere.
unsigned table_bytes(const Execution &x)
{
	return x.long_mode() ? 10 : 6;
}

Outcome<> store_table(Execution &x, const DescriptorTable &table)
{
	u8 image[10];
	__builtin_memcpy(image, &table.limit, 2);
	__builtin_memcpy(image + 2, &table.base, 8);
	return x.write_operand(image, table_bytes(x));
}

Outcome<DescriptorTable> load_table(Execution &x)
{
	u8 image[10] = {};
	DescriptorTable table;
	TRY(x.read_operand(image, table_bytes(x)));
	__builtin_memcpy(&table.limit, image, 2);
	__builtin_memcpy(&table.base, image + 2, 8);
	if (!x.canonical(table.base))
		return x.gp();
	if (x.instruction.operand_size == 2)
		table.base &= 0xff'ffff;
	return table;
}

} // namespace

Outcome<> sgdt(Execution &x)
{
	return store_table(x, x.guest.gdt());
}

Outcome<> sidt(Execution &x)
{
	return store_table(x, x.guest.idt());
}

Outcome<> lgdt(Execution &x)
{
	x.guest.set_gdt(TRY(load_table(x)));
	return {};
}

Outcome<> lidt(Execution &x)
{
	x.guest.set_idt(TRY(load_table(x)));
	return {};
}

Outcome<> smsw(Execution &x)
{
	x.dst.value = x.guest.control(0);
	return {};
}

// It sets PE, but does not clear it (SDM vol. 2, LMSW).
Outcome<> lmsw(Execution &x)
{
	constexpr u64 changeable = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
	const u64 old = x.guest.control(0);
	return x.guest.set_control(
		0, (old & ~(changeable & ~X86_CR0_PE)) | (x.dst.value & changeable));
}

Outcome<> clts(Execution &x)
{
	return x.guest.set_control(0, x.guest.control(0) & ~X86_CR0_TS);
}

static bool is_control_register(unsigned number)
{
	return number == 0 || number == 2 || number == 3 || number == 4 || number == 8;
}

Outcome<> mov_from_control(Execution &x)
{
	if (!is_control_register(x.src.number))
		return x.undefined();
	if (x.cpl() != 0)
		return x.gp();
	return x.store(x.dst, x.guest.control(x.src.number));
}

Outcome<> mov_to_control(Execution &x)
{
	if (!is_control_register(x.dst.number))
		return x.undefined();
	if (x.cpl() != 0)
		return x.gp();
	TRY(x.load(x.src));
	return x.guest.set_control(x.dst.number, x.src.value);
}

// Which debug register a number means, after the checks in the processor's order: SDM vol. 3,
// 17.2.2 and 17.2.4.
static Outcome<unsigned> debug_register(Execution &x, unsigned number)
{
	constexpr u64 dr6_bd = bit(13), dr7_gd = bit(13);
	const bool alias = number == 4 || number == 5;
	if (number > 7 || (alias && x.guest.control(4) & X86_CR4_DE))
		return x.undefined();
	if (x.cpl() != 0)
		return x.gp();
	if (x.guest.debug(7) & dr7_gd) {
		TRY(x.guest.set_debug(6, x.guest.debug(6) | dr6_bd));
		return x.raise(Exception::plain(Vector::debug));
	}
	return alias ? number + 2 : number;
}

Outcome<> mov_from_debug(Execution &x)
{
	const unsigned number = TRY(debug_register(x, x.src.number));
	return x.store(x.dst, x.guest.debug(number));
}

Outcome<> mov_to_debug(Execution &x)
{
	const unsigned number = TRY(debug_register(x, x.dst.number));
	TRY(x.load(x.src));
	if (number >= 6 && x.src.value >> 32)
		return x.gp();
	return x.guest.set_debug(number, x.src.value);
}

// --- MSRs, counters, identification
// ---------------------------------------------------------------

Outcome<> rdmsr(Execution &x)
{
	set_pair(x, TRY(x.guest.read_msr(low(x, Gpr::rcx))));
	return {};
}

Outcome<> wrmsr(Execution &x)
{
	return x.guest.write_msr(low(x, Gpr::rcx), pair(x));
}

static bool may_read_time(Execution &x)
{
	return !(x.guest.control(4) & X86_CR4_TSD) || x.cpl() == 0;
}

Outcome<> rdtsc(Execution &x)
{
	if (!may_read_time(x))
		return x.gp();
	set_pair(x, x.guest.tsc());
	return {};
}

Outcome<> rdtscp(Execution &x)
{
	TRY(rdtsc(x));
	x.set(Gpr::rcx, x.guest.tsc_aux(), 4);
	return {};
}

Outcome<> rdpid(Execution &x)
{
	x.dst.value = x.guest.tsc_aux();
	return {};
}

Outcome<> rdpmc(Execution &x)
{
	if (!(x.guest.control(4) & X86_CR4_PCE) && x.cpl() != 0)
		return x.gp();
	set_pair(x, TRY(x.guest.read_pmc(low(x, Gpr::rcx))));
	return {};
}

Outcome<> cpuid(Execution &x)
{
	u32 answer[4] = {};
	x.guest.cpuid(low(x, Gpr::rax), low(x, Gpr::rcx), answer);
	x.set(Gpr::rax, answer[0], 4);
	x.set(Gpr::rbx, answer[1], 4);
	x.set(Gpr::rcx, answer[2], 4);
	x.set(Gpr::rdx, answer[3], 4);
	return {};
}

// --- extended control registers
// ---------------------------------------------------------------------

Outcome<> xgetbv(Execution &x)
{
	if (!(x.guest.control(4) & X86_CR4_OSXSAVE))
		return x.undefined();
	const u32 index = low(x, Gpr::rcx);
	// XINUSE is known to the processor only.
	if (index == 1)
		return std::unexpected{Stop::unknown};
	if (index != 0)
		return x.gp();
	set_pair(x, x.guest.xcr0());
	return {};
}

Outcome<> xsetbv(Execution &x)
{
	if (!(x.guest.control(4) & X86_CR4_OSXSAVE))
		return x.undefined();
	if (x.cpl() != 0)
		return x.gp();
	return x.guest.set_xcr(low(x, Gpr::rcx), pair(x));
}

// --- FS and GS bases
// ----------------------------------------------------------------------------------

static Outcome<> base_allowed(Execution &x)
{
	if (!(x.guest.control(4) & X86_CR4_FSGSBASE))
		return x.undefined();
	return {};
}

template <SegmentName name>
static Outcome<> read_base(Execution &x)
{
	TRY(base_allowed(x));
	x.dst.value = x.guest.segment(name).base;
	return {};
}

template <SegmentName name>
static Outcome<> write_base(Execution &x)
{
	TRY(base_allowed(x));
	if (!x.canonical(x.dst.value))
		return x.gp();
	Segment segment = x.guest.segment(name);
	segment.base = x.dst.value;
	x.guest.set_segment(name, segment);
	return {};
}

Outcome<> rdfsbase(Execution &x)
{
	return read_base<SegmentName::fs>(x);
}

Outcome<> rdgsbase(Execution &x)
{
	return read_base<SegmentName::gs>(x);
}

Outcome<> wrfsbase(Execution &x)
{
	return write_base<SegmentName::fs>(x);
}

Outcome<> wrgsbase(Execution &x)
{
	return write_base<SegmentName::gs>(x);
}

Outcome<> swapgs(Execution &x)
{
	Segment gs = x.guest.segment(SegmentName::gs);
	const u64 kernel = TRY(x.guest.read_msr(msr::kernel_gs_base));
	TRY(x.guest.write_msr(msr::kernel_gs_base, gs.base));
	gs.base = kernel;
	x.guest.set_segment(SegmentName::gs, gs);
	return {};
}

} // namespace kvmpp::x86::emulator::op
