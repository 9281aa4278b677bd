// SPDX-License-Identifier: GPL-2.0-only
#include "sim/vtx/check_segments.h"

#include "sim/vtx/checks.h"
#include "vmx/controls.h"
#include "vmx/fields.h"

namespace kvmpp::sim::vtx
{
namespace
{

namespace field = vmx::field;
using x86::Segment;
using x86::SegmentName;

template <SegmentName name>
Segment segment(const Vmcs &vmcs)
{
	using Fields = field::SegmentFields<name>;
	return {.selector = vmcs.get(Fields::selector),
		.limit = vmcs.get(Fields::limit),
		.base = vmcs.get(Fields::base),
		.rights = vmcs.get(Fields::rights)};
}

struct Segments {
	explicit Segments(const Vmcs &vmcs)
		: es{segment<SegmentName::es>(vmcs)}, cs{segment<SegmentName::cs>(vmcs)},
		  ss{segment<SegmentName::ss>(vmcs)}, ds{segment<SegmentName::ds>(vmcs)},
		  fs{segment<SegmentName::fs>(vmcs)}, gs{segment<SegmentName::gs>(vmcs)},
		  ldtr{segment<SegmentName::ldtr>(vmcs)}, tr{segment<SegmentName::tr>(vmcs)},
		  virtual8086{(vmcs.get(field::guest_rflags) & X86_EFLAGS_VM) != 0},
		  ia32e{(vmcs.get(field::entry_controls) & vmx::entry_control::ia32e_guest) != 0},
		  unrestricted{(vmcs.get(field::secondary_controls) &
				       vmx::secondary::unrestricted_guest) != 0},
		  protection{(vmcs.get(field::guest_cr0) & X86_CR0_PE) != 0}
	{
	}

	Segment es, cs, ss, ds, fs, gs, ldtr, tr;
	bool virtual8086, ia32e, unrestricted, protection;
};

constexpr u32 rights_reserved = bits(31, 17) | bits(11, 8);

// The granularity must be one that could have given the limit.
bool granularity_fits(const Segment &segment)
{
	if ((segment.limit & 0xfff) != 0xfff && segment.rights.granular())
		return false;
	return !(segment.limit >> 20) || segment.rights.granular();
}

const char *check_selectors(const Segments &s)
{
	if (s.tr.selector & 4)
		return "TI of TR";
	if (!s.ldtr.rights.unusable() && s.ldtr.selector & 4)
		return "TI of LDTR";
	if (!s.virtual8086 && !s.unrestricted && (s.ss.selector & 3) != (s.cs.selector & 3))
		return "RPL of SS";
	return nullptr;
}

const char *check_bases(const Segments &s)
{
	if (s.virtual8086) {
		for (const Segment *one : {&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs}) {
			if (one->base != u64{one->selector} << 4)
				return "a base in virtual-8086 mode";
			if (one->limit != 0xffff || one->rights.raw != 0xf3)
				return "a limit or rights in virtual-8086 mode";
		}
	}
	if (!canonical(s.tr.base) || !canonical(s.fs.base) || !canonical(s.gs.base) ||
		(!s.ldtr.rights.unusable() && !canonical(s.ldtr.base)))
		return "a base of TR, FS, GS or LDTR that is not canonical";
	if (s.cs.base >> 32)
		return "base of CS above 4 GiB";
	for (const Segment *one : {&s.ss, &s.ds, &s.es})
		if (!one->rights.unusable() && one->base >> 32)
			return "a base of SS, DS or ES above 4 GiB";
	return nullptr;
}

const char *check_code(const Segments &s)
{
	const x86::AccessRights cs = s.cs.rights;
	const unsigned type = cs.type(), ss_dpl = s.ss.rights.dpl();
	const bool data = type == 3;
	if (!(type == 9 || type == 11 || type == 13 || type == 15 || (s.unrestricted && data)))
		return "type of CS";
	if (!cs.s() || !cs.present() || cs.unusable() || cs.raw & rights_reserved)
		return "rights of CS";
	if (data ? cs.dpl() != 0 : type <= 11 ? cs.dpl() != ss_dpl : cs.dpl() > ss_dpl)
		return "DPL of CS";
	if (s.ia32e && cs.long_mode() && cs.big())
		return "D of a 64-bit CS";
	return granularity_fits(s.cs) ? nullptr : "G of CS";
}

const char *check_stack(const Segments &s)
{
	const x86::AccessRights ss = s.ss.rights;
	if (!s.unrestricted && ss.dpl() != (s.ss.selector & 3u))
		return "DPL of SS";
	if ((s.cs.rights.type() == 3 || !s.protection) && ss.dpl() != 0)
		return "DPL of SS with a data CS or in real mode";
	if (ss.unusable())
		return nullptr;
	if (ss.type() != 3 && ss.type() != 7)
		return "type of SS";
	if (!ss.s() || !ss.present() || ss.raw & rights_reserved)
		return "rights of SS";
	return granularity_fits(s.ss) ? nullptr : "G of SS";
}

const char *check_data(const Segments &s, const Segment &segment)
{
	const x86::AccessRights rights = segment.rights;
	if (rights.unusable())
		return nullptr;
	if (!(rights.type() & 1) || (rights.code() && !(rights.type() & 2)))
		return "type of a data segment";
	if (!rights.s() || !rights.present() || rights.raw & rights_reserved)
		return "rights of a data segment";
	if (!s.unrestricted && rights.type() <= 11 && rights.dpl() < (segment.selector & 3u))
		return "DPL of a data segment";
	return granularity_fits(segment) ? nullptr : "G of a data segment";
}

const char *check_system(const Segments &s)
{
	const x86::AccessRights tr = s.tr.rights, ldtr = s.ldtr.rights;
	if (!(tr.type() == 11 || (tr.type() == 3 && !s.ia32e)))
		return "type of TR";
	if (tr.s() || !tr.present() || tr.unusable() || tr.raw & rights_reserved || !granularity_fits(s.tr))
		return "rights of TR";
	if (ldtr.unusable())
		return nullptr;
	if (ldtr.type() != 2 || ldtr.s() || !ldtr.present() || ldtr.raw & rights_reserved ||
		!granularity_fits(s.ldtr))
		return "rights of LDTR";
	return nullptr;
}

} // namespace

const char *check_segments(const Vmcs &vmcs)
{
	const Segments s{vmcs};
	for (const auto check : {check_selectors, check_bases})
		if (const char *wrong = check(s))
			return wrong;
	if (!s.virtual8086) {
		for (const auto check : {check_code, check_stack})
			if (const char *wrong = check(s))
				return wrong;
		for (const Segment *one : {&s.ds, &s.es, &s.fs, &s.gs})
			if (const char *wrong = check_data(s, *one))
				return wrong;
	}
	return check_system(s);
}

} // namespace kvmpp::sim::vtx
