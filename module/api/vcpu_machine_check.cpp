// SPDX-License-Identifier: GPL-2.0-only
// KVM_X86_SETUP_MCE and KVM_X86_SET_MCE.
#include "api/vcpu.h"
#include "machine/vm.h"
#include "run/resident.h"

namespace kvmpp::api
{

Result<> setup_mce(Vcpu &vcpu, u64 capabilities)
{
	return vcpu.machine_check.set_up(capabilities);
}

Result<> set_mce(Vcpu &vcpu, const kvm_x86_mce &error)
{
	using Effect = x86::MachineCheck::Effect;
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	const bool enabled = vcpu.state.cr4(resident.vmcs) & X86_CR4_MCE;
	switch (TRY(vcpu.machine_check.inject(error, enabled))) {
	case Effect::logged: return {};
	case Effect::exception: vcpu.events.raise(x86::Exception::plain(x86::Vector::machine_check)); break;
	case Effect::shutdown: vcpu.events.triple_fault = true; break;
	}
	vcpu.mailbox.request(machine::Request::event);
	return {};
}

} // namespace kvmpp::api
