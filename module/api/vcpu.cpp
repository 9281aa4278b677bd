// SPDX-License-Identifier: GPL-2.0-only
// ioctls of a vCPU's descriptor. KVM API, chapter 4, "vcpu ioctls".
#include "api/vcpu.h"

#include "api/attributes.h"
#include "api/entry.h"
#include "api/msrs.h"
#include "api/statistics.h"
#include "api/user.h"
#include "machine/vm.h"
#include "run/msrs.h"
#include "run/resident.h"

namespace kvmpp::api
{
namespace
{

Result<long> get_msrs(Vcpu &vcpu, unsigned long argument)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	return for_each_msr(argument, true, [&](kvm_msr_entry &entry) {
		const auto value = run::read_msr(vcpu, resident.vmcs, entry.index, run::By::vmm);
		entry.data = value.value_or(0);
		return value.has_value();
	});
}

Result<long> set_msrs(Vcpu &vcpu, unsigned long argument)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	return for_each_msr(argument, false, [&](const kvm_msr_entry &entry) {
		return run::write_msr(vcpu, resident.vmcs, entry.index, entry.data, run::By::vmm);
	});
}

Result<> get_lapic(Vcpu &vcpu, kvm_lapic_state &state)
{
	if (!vcpu.lapic)
		return fail(EINVAL);
	vcpu.lapic->get(state, vcpu.vm.wide_apic_ids());
	return {};
}

Result<> set_lapic(Vcpu &vcpu, const kvm_lapic_state &state)
{
	if (!vcpu.lapic)
		return fail(EINVAL);
	TRY(vcpu.lapic->set(state, vcpu.vm.wide_apic_ids()));
	vcpu.vm.note_apic_id(vcpu);
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

Result<> enable_capability(Vcpu &vcpu, const kvm_enable_cap &request)
{
	if (request.flags || request.cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return fail(EINVAL);
	vcpu.enforces_paravirtual = request.args[0];
	return {};
}

// KVM_TPR_ACCESS_REPORTING hands back what was set before.
Result<> report_tpr_accesses(Vcpu &vcpu, kvm_tpr_access_ctl &control)
{
	if (!vcpu.lapic || control.flags)
		return fail(EINVAL);
	const bool enable = control.enabled;
	control = {.enabled = vcpu.task_priority.reports, .flags = 0, .reserved = {}};
	vcpu.task_priority.reports = enable;
	return {};
}

Result<> set_vapic_address(Vcpu &vcpu, const kvm_vapic_addr &request)
{
	if (!vcpu.lapic)
		return fail(EINVAL);
	const Gpa address{request.vapic_addr};
	if (address.value && (!address.aligned(sizeof(u32)) || !vcpu.paravirtual_memory.is_ram(address)))
		return fail(EINVAL);
	vcpu.task_priority.shared = address;
	vcpu.mailbox.request(machine::Request::local_apic);
	vcpu.follow_apic_access();
	return {};
}

Result<> set_signal_mask(Vcpu &vcpu, unsigned long argument)
{
	if (!argument) {
		vcpu.signal_mask.reset();
		return {};
	}
	const auto header = TRY(host::user_get<kvm_signal_mask>(Hva{argument}));
	u64 mask;
	if (header.len != sizeof(mask))
		return fail(EINVAL);
	TRY(host::user_read(&mask, Hva{argument + sizeof(header)}, sizeof(mask)));
	vcpu.signal_mask = mask;
	return {};
}

Result<> set_tsc_khz(Vcpu &vcpu, unsigned long khz)
{
	return khz >> 32 ? fail(EINVAL) : vcpu.set_tsc_khz(static_cast<u32>(khz));
}

// KVM_KVMCLOCK_CTRL: a guest's watchdogs shall not bark at the time that it did not run.
Result<> guest_was_stopped(Vcpu &vcpu)
{
	constexpr u64 enabled = 1;
	if (!(vcpu.msrs.system_time & enabled))
		return fail(EINVAL);
	vcpu.msrs.was_stopped = true;
	vcpu.mailbox.request(machine::Request::clock);
	return {};
}

Result<> nmi(Vcpu &vcpu)
{
	vcpu.events.nmi();
	return {};
}

Result<> smi(Vcpu &vcpu)
{
	vcpu.events.smi = true;
	return {};
}

// What cannot fail, as those above want it.
template <class T>
auto always(void (*use)(Vcpu &, T &), Vcpu &vcpu)
{
	return [use, &vcpu](T &value) -> Result<> {
		use(vcpu, value);
		return {};
	};
}

long ioctl(Vcpu &vcpu, unsigned int command, unsigned long argument)
{
	switch (command) {
	case KVM_RUN: return to_long(run_guest(vcpu, argument));
	case KVM_GET_REGS:
		return to_long(
			with_output<kvm_regs>(argument, [&](auto &regs) { return get_regs(vcpu, regs); }));
	case KVM_SET_REGS:
		return to_long(with_input<kvm_regs>(argument, always<const kvm_regs>(set_regs, vcpu)));
	case KVM_GET_SREGS:
		return to_long(with_output<kvm_sregs>(
			argument, [&](auto &sregs) { return get_sregs(vcpu, sregs); }));
	case KVM_SET_SREGS:
		return to_long(with_input<kvm_sregs>(
			argument, [&](const auto &sregs) { return set_sregs(vcpu, sregs); }));
	case KVM_GET_SREGS2:
		return to_long(with_output<kvm_sregs2>(
			argument, [&](auto &sregs) { return get_sregs2(vcpu, sregs); }));
	case KVM_SET_SREGS2:
		return to_long(with_input<kvm_sregs2>(
			argument, [&](const auto &sregs) { return set_sregs2(vcpu, sregs); }));
	case KVM_GET_DEBUGREGS:
		return to_long(with_output<kvm_debugregs>(argument, always(get_debugregs, vcpu)));
	case KVM_SET_DEBUGREGS:
		return to_long(with_input<kvm_debugregs>(
			argument, [&](const auto &regs) { return set_debugregs(vcpu, regs); }));
	case KVM_GET_FPU:
		return to_long(
			with_output<kvm_fpu>(argument, [&](auto &fpu) { return get_fpu(vcpu, fpu); }));
	case KVM_SET_FPU:
		return to_long(with_input<kvm_fpu>(
			argument, [&](const auto &fpu) { return set_fpu(vcpu, fpu); }));
	case KVM_GET_XSAVE2: // no component beyond what fits
	case KVM_GET_XSAVE:
		return to_long(with_large_output<kvm_xsave>(
			argument, [&](auto &xsave) { return get_xsave(vcpu, xsave); }));
	case KVM_SET_XSAVE:
		return to_long(with_large_input<kvm_xsave>(
			argument, [&](const auto &xsave) { return set_xsave(vcpu, xsave); }));
	case KVM_GET_XCRS:
		return to_long(with_output<kvm_xcrs>(
			argument, [&](auto &xcrs) { return get_xcrs(vcpu, xcrs); }));
	case KVM_SET_XCRS:
		return to_long(with_input<kvm_xcrs>(
			argument, [&](const auto &xcrs) { return set_xcrs(vcpu, xcrs); }));
	case KVM_GET_MSRS: return to_long(get_msrs(vcpu, argument));
	case KVM_SET_MSRS: return to_long(set_msrs(vcpu, argument));
	case KVM_SET_CPUID2: return to_long(set_cpuid2(vcpu, argument));
	case KVM_GET_CPUID2: return to_long(get_cpuid2(vcpu, argument));
	case KVM_GET_LAPIC:
		return to_long(with_large_output<kvm_lapic_state>(
			argument, [&](auto &state) { return get_lapic(vcpu, state); }));
	case KVM_SET_LAPIC:
		return to_long(with_large_input<kvm_lapic_state>(
			argument, [&](const auto &state) { return set_lapic(vcpu, state); }));
	case KVM_GET_VCPU_EVENTS:
		return to_long(with_output<kvm_vcpu_events>(
			argument, [&](auto &events) { return get_events(vcpu, events); }));
	case KVM_SET_VCPU_EVENTS:
		return to_long(with_input<kvm_vcpu_events>(
			argument, [&](const auto &events) { return set_events(vcpu, events); }));
	case KVM_GET_MP_STATE:
		return to_long(with_output<kvm_mp_state>(argument, always(get_mp_state, vcpu)));
	case KVM_SET_MP_STATE:
		return to_long(with_input<kvm_mp_state>(
			argument, [&](const auto &state) { return set_mp_state(vcpu, state); }));
	case KVM_INTERRUPT:
		return to_long(with_input<kvm_interrupt>(argument,
			[&](const auto &interrupt) { return queue_interrupt(vcpu, interrupt); }));
	case KVM_NMI: return to_long(nmi(vcpu));
	case KVM_SMI: return to_long(smi(vcpu));
	case KVM_X86_SETUP_MCE:
		return to_long(with_input<u64>(
			argument, [&](u64 capabilities) { return setup_mce(vcpu, capabilities); }));
	case KVM_X86_SET_MCE:
		return to_long(with_input<kvm_x86_mce>(
			argument, [&](const auto &error) { return set_mce(vcpu, error); }));
	case KVM_ENABLE_CAP:
		return to_long(with_input<kvm_enable_cap>(
			argument, [&](const auto &request) { return enable_capability(vcpu, request); }));
	case KVM_TPR_ACCESS_REPORTING:
		return to_long(with_in_out<kvm_tpr_access_ctl>(
			argument, [&](auto &control) { return report_tpr_accesses(vcpu, control); }));
	case KVM_SET_VAPIC_ADDR:
		return to_long(with_input<kvm_vapic_addr>(
			argument, [&](const auto &request) { return set_vapic_address(vcpu, request); }));
	case KVM_SET_SIGNAL_MASK: return to_long(set_signal_mask(vcpu, argument));
	case KVM_GET_STATS_FD: return to_long(statistics_file(vcpu));
	case KVM_GET_TSC_KHZ: return static_cast<long>(vcpu.tsc.khz());
	case KVM_SET_TSC_KHZ: return to_long(set_tsc_khz(vcpu, argument));
	case KVM_KVMCLOCK_CTRL: return to_long(guest_was_stopped(vcpu));
	case KVM_SET_GUEST_DEBUG:
		return to_long(with_input<kvm_guest_debug>(
			argument, [&](const auto &request) { return set_guest_debug(vcpu, request); }));
	case KVM_HAS_DEVICE_ATTR:
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		return to_long(with_input<kvm_device_attr>(argument,
			[&](const auto &attribute) { return vcpu_attribute(vcpu, command, attribute); }));
	case KVM_TRANSLATE:
		return to_long(with_in_out<kvm_translation>(
			argument, [&](auto &translation) { return translate(vcpu, translation); }));
	default: return -EINVAL;
	}
}

} // namespace
} // namespace kvmpp::api

extern "C" {

long kvmpp_vcpu_ioctl(void *owner, unsigned int command, unsigned long argument)
{
	using namespace kvmpp;
	auto &vcpu = *static_cast<machine::Vcpu *>(owner);
	if (!vcpu.vm.is_current_mm())
		return -EIO;
	if (_IOC_TYPE(command) != KVMIO)
		return -EINVAL;
	if (const auto locked = vcpu.lock.lock_killable(); !locked)
		return api::to_long(locked);
	const long result = api::ioctl(vcpu, command, argument);
	vcpu.lock.unlock();
	return result;
}

void kvmpp_vcpu_release(void *vcpu)
{
	static_cast<kvmpp::machine::Vcpu *>(vcpu)->vm.put();
}

void *kvmpp_vcpu_page(void *vcpu, unsigned long index)
{
	return static_cast<kvmpp::machine::Vcpu *>(vcpu)->mmap_page(index);
}

int kvmpp_vcpu_shows_dirty_ring(void *vcpu, unsigned long first, unsigned long count)
{
	return static_cast<kvmpp::machine::Vcpu *>(vcpu)->shows_dirty_ring(first, count);
}
}
