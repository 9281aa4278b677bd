// SPDX-License-Identifier: GPL-2.0-only
#include "api/attributes.h"

#include "host/user_memory.h"

namespace kvmpp::api
{

Result<> system_attribute(unsigned int command, const kvm_device_attr &attribute)
{
	if (attribute.group || attribute.attr != KVM_X86_XCOMP_GUEST_SUPP)
		return fail(ENXIO);
	if (command == KVM_HAS_DEVICE_ATTR)
		return {};
	return host::user_put(Hva{attribute.addr}, u64{kvmpp_fpu_xcr0_supported()});
}

Result<> vcpu_attribute(machine::Vcpu &vcpu, unsigned int command, const kvm_device_attr &attribute)
{
	if (attribute.group != KVM_VCPU_TSC_CTRL || attribute.attr != KVM_VCPU_TSC_OFFSET)
		return fail(ENXIO);
	switch (command) {
	case KVM_GET_DEVICE_ATTR: return host::user_put(Hva{attribute.addr}, vcpu.tsc.offset());
	case KVM_SET_DEVICE_ATTR: vcpu.set_tsc_offset(TRY(host::user_get<u64>(Hva{attribute.addr}))); return {};
	default: return {};
	}
}

} // namespace kvmpp::api
