// SPDX-License-Identifier: GPL-2.0-only
// What a processor without unrestricted guests demands of the segment registers at a VM entry in
// protected mode. SDM vol. 3, 27.3.1.2. Between MOV CR0 and the first far jump a guest's segments
// are still real mode's.
#pragma once

#include <array>
#include "x86/registers.h"

namespace kvmpp::vmx
{

struct SegmentRegisters {
	std::array<x86::Segment, x86::segment_count> values{};
	constexpr const x86::Segment &operator[](x86::SegmentName name) const
	{
		return values[static_cast<u8>(name)];
	}
};

constexpr bool granularity_fits(const x86::Segment &segment)
{
	const bool granular = segment.rights.granular();
	return !((segment.limit & 0xfff) != 0xfff && granular) && !(segment.limit >> 20 && !granular);
}

constexpr bool is_code_or_data(const x86::Segment &segment)
{
	return segment.rights.s() && segment.rights.present() && granularity_fits(segment);
}

constexpr bool cs_enterable(const SegmentRegisters &segments)
{
	const x86::Segment &cs = segments[x86::SegmentName::cs];
	const unsigned stack_dpl = segments[x86::SegmentName::ss].rights.dpl();
	constexpr unsigned accessed = 1;
	if (cs.rights.unusable() || !is_code_or_data(cs) || !cs.rights.code() || !(cs.rights.type() & accessed))
		return false;
	return cs.rights.conforming() ? cs.rights.dpl() <= stack_dpl : cs.rights.dpl() == stack_dpl;
}

constexpr bool ss_enterable(const SegmentRegisters &segments)
{
	const x86::Segment &ss = segments[x86::SegmentName::ss], &cs = segments[x86::SegmentName::cs];
	const unsigned rpl = ss.selector & 3;
	if (rpl != (cs.selector & 3u))
		return false;
	if (ss.rights.unusable())
		return true;
	const bool stack = ss.rights.type() == 3 || ss.rights.type() == 7;
	return stack && is_code_or_data(ss) && ss.rights.dpl() == rpl;
}

constexpr bool data_enterable(const x86::Segment &segment)
{
	constexpr unsigned accessed = 1, last_nonconforming = 11;
	if (segment.rights.unusable())
		return true;
	if (!(segment.rights.type() & accessed) || !segment.rights.readable() || !is_code_or_data(segment))
		return false;
	return segment.rights.type() > last_nonconforming || segment.rights.dpl() >= (segment.selector & 3u);
}

constexpr bool tr_enterable(const x86::Segment &tr, bool long_mode)
{
	constexpr unsigned busy_16 = 3, busy = 11, local_table = 1 << 2;
	const bool type = tr.rights.type() == busy || (!long_mode && tr.rights.type() == busy_16);
	return !tr.rights.unusable() && type && !tr.rights.s() && tr.rights.present() &&
	       !(tr.selector & local_table) && granularity_fits(tr);
}

constexpr bool ldtr_enterable(const x86::Segment &ldtr)
{
	constexpr unsigned local_descriptor_table = 2, local_table = 1 << 2;
	return ldtr.rights.unusable() ||
	       (ldtr.rights.type() == local_descriptor_table && !ldtr.rights.s() && ldtr.rights.present() &&
		       !(ldtr.selector & local_table) && granularity_fits(ldtr));
}

constexpr bool is_8086_segment(const x86::Segment &segment)
{
	constexpr u32 rights = 0xf3;
	return segment.base == u64{segment.selector} << 4 && segment.limit == 0xffff &&
	       segment.rights.raw == rights;
}

// In real mode, which only a processor with unrestricted guests enters: the manual's words for those.
constexpr bool enterable_in_real_mode(const SegmentRegisters &segments)
{
	using enum x86::SegmentName;
	const x86::Segment &code = segments[cs], &stack = segments[ss];
	const bool writable = code.rights.type() == 3, accessed = code.rights.code() && code.rights.type() & 1;
	if (code.rights.unusable() || !is_code_or_data(code) || code.rights.dpl() || !(writable || accessed))
		return false;
	const bool is_stack = stack.rights.type() == 3 || stack.rights.type() == 7;
	if (stack.rights.dpl() || (!stack.rights.unusable() && !(is_stack && is_code_or_data(stack))))
		return false;
	for (const auto name : {ds, es, fs, gs}) {
		const x86::AccessRights rights = segments[name].rights;
		const bool readable = rights.type() & 1 && rights.readable() && is_code_or_data(segments[name]);
		if (!rights.unusable() && !readable)
			return false;
	}
	return tr_enterable(segments[tr], false) && ldtr_enterable(segments[ldtr]);
}

// In virtual-8086 mode, or in protected mode with or without long mode.
constexpr bool enterable(const SegmentRegisters &segments, bool virtual_8086, bool long_mode)
{
	using enum x86::SegmentName;
	if (!tr_enterable(segments[tr], long_mode) || !ldtr_enterable(segments[ldtr]))
		return false;
	for (const auto name : {ds, es, fs, gs})
		if (virtual_8086 ? !is_8086_segment(segments[name]) : !data_enterable(segments[name]))
			return false;
	if (virtual_8086)
		return is_8086_segment(segments[cs]) && is_8086_segment(segments[ss]);
	return cs_enterable(segments) && ss_enterable(segments);
}

} // namespace kvmpp::vmx
