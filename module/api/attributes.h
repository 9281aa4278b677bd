// SPDX-License-Identifier: GPL-2.0-only
// KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR of the device and of vCPUs. KVM API,
// "KVM_CAP_SYS_ATTRIBUTES", and Documentation/virt/kvm/devices/vcpu.rst. ENXIO: no such attribute;
// EFAULT.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::api
{

Result<> system_attribute(unsigned int command, const kvm_device_attr &attribute);
Result<> vcpu_attribute(machine::Vcpu &vcpu, unsigned int command, const kvm_device_attr &attribute);

} // namespace kvmpp::api
