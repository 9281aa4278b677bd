// SPDX-License-Identifier: GPL-2.0-only
// Loads and stores of segment registers, LDTR and TR, and questions about selectors.
#include <algorithm>
#include "x86/emulator/far.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

Outcome<> load_segment(Execution &x, SegmentName name, u16 selector)
{
	Segment segment{};
	if (x.protected_mode()) {
		segment = TRY(data_segment(x, name, selector, x.cpl()));
	} else if (x.mode == Mode::virtual8086) {
		segment = segment_8086(selector);
	} else {
		// SDM vol. 3, 20.1.1; the limit stays, which is what "unreal mode" lives on.
		segment = x.guest.segment(name);
		segment.selector = selector;
		segment.base = u64{selector} << 4;
	}
	x.guest.set_segment(name, segment);
	return {};
}

// Two accesses: what they must be aligned to differs (SDM vol. 3, table 6-7).
Outcome<FarPointer> read_far_pointer(Execution &x)
{
	const unsigned size = x.instruction.operand_size;
	const SegmentName segment = x.instruction.address.segment;
	const u64 behind = (x.address + size) & value_mask(x.instruction.address_size);
	FarPointer pointer;
	pointer.offset = TRY(x.read_value(segment, x.address, size));
	pointer.selector = static_cast<u16>(TRY(x.read_value(segment, behind, 2)));
	return pointer;
}

namespace op
{

namespace
{

template <SegmentName name>
Outcome<> load_far_pointer(Execution &x)
{
	const FarPointer pointer = TRY(read_far_pointer(x));
	x.dst.value = pointer.offset;
	return load_segment(x, name, pointer.selector);
}

// LAR, LSL, VERR and VERW: the descriptor, if the selector may be asked about at all.
Outcome<bool> visible_descriptor(Execution &x, u16 selector, Descriptor &descriptor)
{
	if (!TRY(has_descriptor(x, selector)))
		return false;
	descriptor = TRY(read_descriptor(x, selector));
	return descriptor.code() && descriptor.rights().conforming()
		       ? true
		       : descriptor.dpl() >= std::max(x.cpl(), rpl(selector));
}

// System types for LAR and LSL, one bit each (SDM vol. 2, tables 3-51 and 3-55).
constexpr u32 lar_types = 0x1a3e, lar_types_ia32e = 0x1a04;
constexpr u32 lsl_types = 0x0a0e, lsl_types_ia32e = 0x0a04;

Outcome<> describe(Execution &x, u32 types, u32 types_ia32e, u64 (*answer)(const Descriptor &))
{
	TRY(x.load(x.src));
	Descriptor descriptor;
	bool valid = TRY(visible_descriptor(x, static_cast<u16>(x.src.value), descriptor));
	if (valid && !descriptor.rights().s())
		valid = (x.long_mode_active() ? types_ia32e : types) &
			bit(descriptor.rights().type());
	x.set_flags(valid ? flag::zf : 0, flag::zf);
	return valid ? x.store(x.dst, answer(descriptor)) : Outcome<>{};
}

template <bool (AccessRights::*allows)() const>
Outcome<> verify(Execution &x)
{
	Descriptor descriptor;
	bool valid = TRY(visible_descriptor(x, static_cast<u16>(x.dst.value), descriptor));
	valid = valid && descriptor.rights().s() && (descriptor.rights().*allows)();
	x.set_flags(valid ? flag::zf : 0, flag::zf);
	return {};
}

} // namespace

Outcome<> mov_segment(Execution &x)
{
	const SegmentName name = static_cast<SegmentName>(x.dst.number);
	if (name == SegmentName::cs)
		return x.undefined();
	TRY(x.load(x.src));
	TRY(load_segment(x, name, static_cast<u16>(x.src.value)));
	if (name == SegmentName::ss)
		x.guest.block_interrupts(true);
	return {};
}

Outcome<> pop_segment(Execution &x)
{
	const SegmentName name = static_cast<SegmentName>(x.dst.number);
	const u64 value = TRY(x.pop(x.instruction.operand_size));
	TRY(load_segment(x, name, static_cast<u16>(value)));
	if (name == SegmentName::ss)
		x.guest.block_interrupts(true);
	return {};
}

Outcome<> les(Execution &x)
{
	return load_far_pointer<SegmentName::es>(x);
}

Outcome<> lds(Execution &x)
{
	return load_far_pointer<SegmentName::ds>(x);
}

Outcome<> lss(Execution &x)
{
	return load_far_pointer<SegmentName::ss>(x);
}

Outcome<> lfs(Execution &x)
{
	return load_far_pointer<SegmentName::fs>(x);
}

Outcome<> lgs(Execution &x)
{
	return load_far_pointer<SegmentName::gs>(x);
}

Outcome<> lar(Execution &x)
{
	return describe(x, lar_types, lar_types_ia32e,
		[](const Descriptor &descriptor) { return descriptor.low >> 32 & 0xffff00; });
}

Outcome<> lsl(Execution &x)
{
	return describe(x, lsl_types, lsl_types_ia32e,
		[](const Descriptor &descriptor) { return u64{descriptor.limit()}; });
}

Outcome<> verr(Execution &x)
{
	return verify<&AccessRights::readable>(x);
}

Outcome<> verw(Execution &x)
{
	return verify<&AccessRights::writable>(x);
}

Outcome<> arpl(Execution &x)
{
	const u64 wanted = x.src.value & 3;
	const bool raise = (x.dst.value & 3) < wanted;
	if (raise)
		x.dst.value = (x.dst.value & ~u64{3}) | wanted;
	x.set_flags(raise ? flag::zf : 0, flag::zf);
	return {};
}

Outcome<> sldt(Execution &x)
{
	x.dst.value = x.guest.segment(SegmentName::ldtr).selector;
	return {};
}

Outcome<> str(Execution &x)
{
	x.dst.value = x.guest.segment(SegmentName::tr).selector;
	return {};
}

Outcome<> lldt(Execution &x)
{
	const u16 selector = static_cast<u16>(x.dst.value);
	if (is_null(selector)) {
		x.guest.set_segment(SegmentName::ldtr, null_segment(selector));
		return {};
	}
	if (selector & 4)
		return x.gp(selector);
	const Descriptor descriptor =
		TRY(read_system_descriptor(x, selector, Vector::general_protection));
	if (!descriptor.is(SystemType::ldt) || !x.canonical(descriptor.base()))
		return x.gp(selector);
	if (!descriptor.present())
		return x.fault(Vector::segment_not_present, selector);
	x.guest.set_segment(SegmentName::ldtr, descriptor.segment(selector));
	return {};
}

Outcome<> ltr(Execution &x)
{
	const u16 selector = static_cast<u16>(x.dst.value);
	if (is_null(selector) || selector & 4)
		return x.gp(selector);
	Descriptor descriptor =
		TRY(read_system_descriptor(x, selector, Vector::general_protection));
	const bool available = descriptor.is(SystemType::tss32) ||
			       (descriptor.is(SystemType::tss16) && !x.long_mode_active());
	if (!available || !x.canonical(descriptor.base()))
		return x.gp(selector);
	if (!descriptor.present())
		return x.fault(Vector::segment_not_present, selector);
	TRY(mark_descriptor(x, descriptor, Descriptor::busy_bit));
	x.guest.set_segment(SegmentName::tr, descriptor.segment(selector));
	return {};
}

} // namespace op

} // namespace kvmpp::x86::emulator
