// SPDX-License-Identifier: GPL-2.0-only
// KVM_SET_GUEST_DEBUG.
#include <algorithm>
#include "api/vcpu.h"

namespace kvmpp::api
{
namespace
{

bool exception_under_way(const Vcpu &vcpu)
{
	const auto is_exception = [](const std::optional<machine::Delivery> &delivery) {
		return delivery && (delivery->info.type() == vmx::EventType::hardware_exception ||
					   delivery->info.type() == vmx::EventType::software_exception);
	};
	const auto &events = vcpu.events;
	return events.exception || is_exception(events.next) || is_exception(events.begun);
}

} // namespace

Result<> set_guest_debug(Vcpu &vcpu, const kvm_guest_debug &request)
{
	using machine::Debugger;
	if (request.control & ~Debugger::known)
		return fail(EINVAL);
	const u32 injected = request.control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);
	if (injected && exception_under_way(vcpu))
		return fail(EBUSY);
	if (injected)
		vcpu.events.raise(x86::Exception::plain(request.control & KVM_GUESTDBG_INJECT_DB
								? x86::Vector::debug
								: x86::Vector::breakpoint));

	constexpr u64 dr7_writable = 0xffff2bff;
	Debugger &debugger = vcpu.debugger;
	debugger = {};
	if (request.control & KVM_GUESTDBG_ENABLE)
		debugger.control = request.control & ~injected;
	if (debugger.has_breakpoints()) {
		std::copy_n(request.arch.debugreg, debugger.address.size(), debugger.address.begin());
		debugger.dr7 = (request.arch.debugreg[7] & dr7_writable) | machine::DebugRegisters::dr7_fixed;
	}
	vcpu.mailbox.request(machine::Request::event);
	vcpu.mailbox.request(machine::Request::local_apic);
	return {};
}

} // namespace kvmpp::api
