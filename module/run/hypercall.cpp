// SPDX-License-Identifier: GPL-2.0-only
#include "run/hypercall.h"

#include <linux/kvm_para.h>
#include "machine/vm.h"

namespace kvmpp::run
{
namespace
{

using machine::Request;
using x86::Gpr;

// KVM_HC_KICK_CPU: whoever spun for a lock and halted gets it.
s64 kick(Vcpu &vcpu, u32 apic_id)
{
	if (Vcpu *target = vcpu.vm.vcpus.find(apic_id))
		target->mailbox.request_and_kick(Request::unhalt);
	return 0;
}

// KVM_HC_SCHED_YIELD: whoever is waited for runs first, if all it lacks is a CPU.
s64 yield_to(Vcpu &vcpu, u32 apic_id)
{
	Vcpu *const target = vcpu.vm.vcpus.find(apic_id);
	if (target && target != &vcpu && target->residency.away())
		target->thread.yield_to();
	return 0;
}

// KVM_HC_SEND_IPI: an interrupt to each processor of a bitmap that begins with the APIC ID `first`.
s64 send_ipi(Vcpu &vcpu, u64 low, u64 high, u32 first, u64 command, unsigned width)
{
	constexpr u64 shorthand = 0xc0000, logical = 0x800;
	if (!vcpu.lapic || command & (shorthand | logical))
		return -KVM_EINVAL;
	x86::Message message{.vector = static_cast<u8>(command),
		.delivery = static_cast<x86::Delivery>(command >> 8 & 7)};
	if (message.delivery != x86::Delivery::fixed && message.delivery != x86::Delivery::nmi)
		return -KVM_EINVAL;
	s64 count = 0;
	for (unsigned i = 0; i < 2 * width; ++i) {
		const u64 word = i < width ? low : high;
		if (!(word >> i % width & 1))
			continue;
		// The ID that a local APIC is made with is its vCPU's.
		if (Vcpu *target = vcpu.vm.vcpus.find(first + i))
			count += target->lapic->accept(message) > 0;
	}
	return count;
}

bool offered(const Vcpu &vcpu, u64 number)
{
	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ: return true;
	case KVM_HC_KICK_CPU: return vcpu.has_paravirtual(KVM_FEATURE_PV_UNHALT);
	case KVM_HC_SCHED_YIELD: return vcpu.has_paravirtual(KVM_FEATURE_PV_SCHED_YIELD);
	case KVM_HC_SEND_IPI: return vcpu.has_paravirtual(KVM_FEATURE_PV_SEND_IPI);
	default: return false;
	}
}

// One that there is, from the guest's kernel. is_64_bit(): the registers have 64 bits.
template <class Is64Bit>
s64 perform(Vcpu &vcpu, u64 number, Is64Bit &&is_64_bit)
{
	switch (number) {
	case KVM_HC_KICK_CPU: return kick(vcpu, static_cast<u32>(vcpu.gpr(Gpr::rcx)));
	case KVM_HC_SCHED_YIELD: return yield_to(vcpu, static_cast<u32>(vcpu.gpr(Gpr::rbx)));
	case KVM_HC_SEND_IPI:
		return send_ipi(vcpu, vcpu.gpr(Gpr::rbx), vcpu.gpr(Gpr::rcx),
			static_cast<u32>(vcpu.gpr(Gpr::rdx)), vcpu.gpr(Gpr::rsi), is_64_bit() ? 64 : 32);
	default: return 0; // KVM_HC_VAPIC_POLL_IRQ: every exit polls
	}
}

} // namespace

void hypercall(Vcpu &vcpu, vmx::Current vmcs)
{
	const auto is_64_bit = [&] { return vcpu.mode(vmcs) == x86::Mode::long64; };
	u64 number = vcpu.gpr(Gpr::rax);
	// Only a register that is used with 64 bits tells 64-bit code from other: mostly nobody need look.
	if (number >> 32 && !is_64_bit())
		number = static_cast<u32>(number);

	s64 result = -KVM_ENOSYS;
	if (offered(vcpu, number))
		result = vcpu.state.cpl(vmcs) == 0 ? perform(vcpu, number, is_64_bit) : -KVM_EPERM;
	// 32-bit code of a 64-bit kernel does not see the upper half.
	const bool wide = vcpu.state.efer() & x86::efer::lma;
	vcpu.gpr(Gpr::rax) = wide ? static_cast<u64>(result) : static_cast<u32>(result);
}

} // namespace kvmpp::run
