// SPDX-License-Identifier: GPL-2.0-only
// Model-specific registers of a guest, read and written by its instructions and by its VMM.
#pragma once

#include <optional>
#include <span>
#include "machine/hypervisor.h"
#include "machine/vcpu.h"

namespace kvmpp::run
{

using machine::Vcpu;

// The VMM may set what a guest may not, to restore a state.
enum class By : u8 { guest, vmm };

// Nothing / false: #GP(0) for a guest. The VMCS is current.
std::optional<u64> read_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index, By by);
bool write_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index, u64 value, By by);

// Whether there is such an MSR at all, whatever may be read from it or written to it.
bool knows_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index);

// KVM_GET_MSR_INDEX_LIST: what makes up a guest's state.
std::span<const u32> saved_msrs();
// KVM_GET_MSR_FEATURE_INDEX_LIST, and KVM_GET_MSRS of the device.
std::span<const u32> feature_msrs();
std::optional<u64> read_feature_msr(const machine::Hypervisor &hypervisor, u32 index);

} // namespace kvmpp::run
