// SPDX-License-Identifier: GPL-2.0-only
// x87 and SSE control state: everything by way of the FXSAVE image (SDM vol. 1, 10.5.1).
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator::op
{

namespace
{

struct alignas(16) Image {
	u16 control = 0;
	u16 status = 0;
	u8 tags = 0; // one bit per register: not empty
	u8 reserved = 0;
	u16 opcode = 0;
	u64 instruction = 0;
	u64 operand = 0;
	u32 mxcsr = 0;
	u32 mxcsr_mask = 0;
	u8 st[128] = {};
	u8 xmm[256] = {};
	u8 rest[96] = {};
};
static_assert(sizeof(Image) == 512);

constexpr u16 initial_control = 0x37f;
constexpr u16 exception_flags = 0x3f, error_summary = 0x80, busy = 0x8000;
constexpr unsigned low_registers_end = 288, all_registers_end = 416; // XMM0-7, XMM0-15
constexpr unsigned piece = 32;

// The bytes that the instruction reads or writes: XMM8-15 are there in 64-bit mode only.
unsigned extent(const Execution &x)
{
	return x.long_mode() ? all_registers_end : low_registers_end;
}

Outcome<Gva> image_address(Execution &x, Access access)
{
	const SegmentName segment = x.instruction.address.segment;
	const Gva where = TRY(x.linear(segment, x.address, sizeof(Image), access, 0));
	if (!where.aligned(16))
		return x.gp();
	return where;
}

// Without REX.W the pointers have 32 bits beside selectors, which newer processors give as 0.
void narrow_pointers(const Execution &x, Image &image)
{
	if (x.instruction.operand_size != 8) {
		image.instruction &= 0xffff'ffff;
		image.operand &= 0xffff'ffff;
	}
}

// The image has the registers in the order of the stack, whose top becomes register 0.
void clear_top(Image &image)
{
	const unsigned top = image.status >> 11 & 7;
	Image old = image;
	for (unsigned i = 0; i < 8; ++i)
		__builtin_memcpy(image.st + 16 * ((i + top) & 7), old.st + 16 * i, 16);
	image.status &= static_cast<u16>(~(7 << 11));
}

} // namespace

Outcome<> fxsave(Execution &x)
{
	const Gva to = TRY(image_address(x, Access::write));
	Image image;
	x.guest.fxsave(&image);
	narrow_pointers(x, image);
	TRY(x.guest.probe(to, sizeof(image), Access::write));
	for (unsigned at = 0; at < extent(x); at += piece)
		TRY(x.write_linear(
			to + at, reinterpret_cast<u8 *>(&image) + at, piece, Access::write));
	return {};
}

Outcome<> fxrstor(Execution &x)
{
	const Gva from = TRY(image_address(x, Access::read));
	Image image;
	x.guest.fxsave(&image);
	TRY(x.guest.probe(from, sizeof(image), Access::read));
	for (unsigned at = 0; at < extent(x); at += piece)
		TRY(x.read_linear(
			from + at, reinterpret_cast<u8 *>(&image) + at, piece, Access::read));
	narrow_pointers(x, image);
	return x.guest.fxrstor(&image);
}

Outcome<> stmxcsr(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	x.dst.value = image.mxcsr;
	return {};
}

Outcome<> ldmxcsr(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	image.mxcsr = static_cast<u32>(x.dst.value);
	return x.guest.fxrstor(&image);
}

// FWAIT: #NM with CR0.TS and CR0.MP both set.
Outcome<> fwait(Execution &x)
{
	constexpr u64 both = X86_CR0_TS | X86_CR0_MP;
	if ((x.guest.control(0) & both) == both)
		return x.raise(Exception::plain(Vector::device_not_available));
	Image image;
	x.guest.fxsave(&image);
	if (image.status & error_summary)
		return x.raise(Exception::plain(Vector::x87_error));
	return {};
}

Outcome<> fnop(Execution &)
{
	return {};
}

Outcome<> fninit(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	clear_top(image);
	image.control = initial_control;
	image.status = image.opcode = 0;
	image.tags = 0;
	image.instruction = image.operand = 0;
	return x.guest.fxrstor(&image);
}

Outcome<> fnclex(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	image.status &= static_cast<u16>(~(exception_flags | 0x40 | error_summary | busy));
	return x.guest.fxrstor(&image);
}

Outcome<> fnstcw(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	x.dst.value = image.control;
	return {};
}

Outcome<> fnstsw(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	x.dst.value = image.status;
	return {};
}

// Unmasking an exception that is pending makes it due at the next instruction.
Outcome<> fldcw(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	image.control = static_cast<u16>((x.dst.value & 0x1f3f) | 0x40);
	image.status &= static_cast<u16>(~(error_summary | busy));
	if (image.status & ~image.control & exception_flags)
		image.status |= error_summary | busy;
	return x.guest.fxrstor(&image);
}

Outcome<> emms(Execution &x)
{
	Image image;
	x.guest.fxsave(&image);
	clear_top(image);
	image.tags = 0;
	return x.guest.fxrstor(&image);
}

} // namespace kvmpp::x86::emulator::op
