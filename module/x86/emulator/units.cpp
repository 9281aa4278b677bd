// SPDX-License-Identifier: GPL-2.0-only
#include "x86/emulator/units.h"

namespace kvmpp::x86::emulator
{

namespace
{

constexpr unsigned fsw_offset = 2; // in the FXSAVE image
constexpr u8 fsw_error_summary = 0x80;
constexpr u64 xcr0_sse_and_avx = 6;

} // namespace

// SDM vol. 2, 2.4 and vol. 3, 13.1; the order within is that of tables 2-20 ff.
Outcome<> check_units(Execution &x, rule::Rules rules)
{
	if (!(rules & (rule::x87 | rule::mmx | rule::sse | rule::avx)))
		return {};
	const u64 cr0 = x.guest.control(0);
	if (rules & rule::avx) {
		if (!(x.guest.control(4) & X86_CR4_OSXSAVE) ||
			(x.guest.xcr0() & xcr0_sse_and_avx) != xcr0_sse_and_avx)
			return x.undefined();
	} else if (rules & (rule::sse | rule::mmx)) {
		if (cr0 & X86_CR0_EM ||
			(rules & rule::sse && !(x.guest.control(4) & X86_CR4_OSFXSR)))
			return x.undefined();
	} else if (cr0 & X86_CR0_EM) {
		return x.raise(Exception::plain(Vector::device_not_available));
	}
	if (cr0 & X86_CR0_TS)
		return x.raise(Exception::plain(Vector::device_not_available));
	if (rules & (rule::mmx | rule::waits)) {
		alignas(16) u8 image[512];
		x.guest.fxsave(image);
		if (image[fsw_offset] & fsw_error_summary)
			return x.raise(Exception::plain(Vector::x87_error));
	}
	return {};
}

} // namespace kvmpp::x86::emulator
