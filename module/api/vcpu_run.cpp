// SPDX-License-Identifier: GPL-2.0-only
// KVM_RUN, and the registers that a VMM exchanges through the run page with it (KVM_CAP_SYNC_REGS).
#include "api/vcpu.h"
#include "machine/vm.h"
#include "run/loop.h"

namespace kvmpp::api
{
namespace
{

// From a page that the VMM may write to at any time: one copy, and nothing is read twice.
template <class T>
T copy_once(const T &shared)
{
	T copy;
	__builtin_memcpy(&copy, &shared, sizeof(T));
	asm volatile("" : "+m"(copy));
	return copy;
}

Result<> take_registers(Vcpu &vcpu, u64 which)
{
	const auto &shared = vcpu.run().s.regs;
	if (which & KVM_SYNC_X86_REGS)
		set_regs(vcpu, copy_once(shared.regs));
	if (which & KVM_SYNC_X86_SREGS)
		TRY(set_sregs(vcpu, copy_once(shared.sregs)));
	if (which & KVM_SYNC_X86_EVENTS)
		TRY(set_events(vcpu, copy_once(shared.events)));
	return {};
}

Result<> show_registers(Vcpu &vcpu, u64 which)
{
	auto &shared = vcpu.run().s.regs;
	if (which & KVM_SYNC_X86_REGS) {
		kvm_regs regs{};
		TRY(get_regs(vcpu, regs));
		shared.regs = regs;
	}
	if (which & KVM_SYNC_X86_SREGS) {
		kvm_sregs sregs{};
		TRY(get_sregs(vcpu, sregs));
		shared.sregs = sregs;
	}
	if (which & KVM_SYNC_X86_EVENTS) {
		kvm_vcpu_events events{};
		TRY(get_events(vcpu, events));
		shared.events = events;
	}
	return {};
}

} // namespace

Result<> run_guest(Vcpu &vcpu, unsigned long argument)
{
	if (argument)
		return fail(EINVAL);
	kvm_run &run = vcpu.run();
	const u64 wanted = copy_once(run.kvm_valid_regs), dirty = copy_once(run.kvm_dirty_regs);
	if ((wanted | dirty) & ~u64{exchanged_registers})
		return fail(EINVAL);
	if (dirty) {
		TRY(take_registers(vcpu, dirty));
		run.kvm_dirty_regs = 0;
	}
	const Result<> result = run::run(vcpu);
	if (wanted)
		TRY(show_registers(vcpu, wanted));
	return result;
}

} // namespace kvmpp::api
