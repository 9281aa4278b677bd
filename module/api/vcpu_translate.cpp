// SPDX-License-Identifier: GPL-2.0-only
// KVM_TRANSLATE: what the guest's own page tables make of an address, for a debugger.
#include "api/vcpu.h"
#include "machine/vm.h"
#include "run/resident.h"
#include "x86/paging.h"

namespace kvmpp::api
{
namespace
{

// Looking leaves no accessed bits behind.
struct Looking {
	const machine::GuestMemory &memory;

	bool read_entry(Gpa address, unsigned size, u64 &entry) const
	{
		return memory.read_entry(address, size, entry);
	}
	x86::Replaced replace_entry(Gpa, unsigned, u64, u64) const { return x86::Replaced::yes; }
};

} // namespace

Result<> translate(Vcpu &vcpu, kvm_translation &translation)
{
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	constexpr x86::PageAccess any_supervisor_read{.smap_lifted = true};
	const auto found = x86::translate(Looking{vcpu.memory}, vcpu.paging(resident.vmcs),
		Gva{translation.linear_address}, any_supervisor_read);
	translation.valid = found.has_value();
	translation.physical_address = found ? found->address.value : ~u64{0};
	translation.writeable = found && found->writable;
	translation.usermode = found && found->user;
	return {};
}

} // namespace kvmpp::api
