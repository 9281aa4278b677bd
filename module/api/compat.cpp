// SPDX-License-Identifier: GPL-2.0-only
// ioctls of 32-bit callers on a 64-bit host. KVM's structs have one layout for both, but for the two
// that hold a pointer beside padding: there only the lower half of the pointer's place is the caller's.
#include <linux/kvm.h>
#include "api/entry.h"
#include "api/user.h"
#include "machine/vm.h"

namespace kvmpp::api
{
namespace
{

using machine::Vm;

constexpr u64 pointer32(u64 place)
{
	return static_cast<u32>(place);
}

Result<> get_dirty_log(Vm &vm, const kvm_dirty_log &log)
{
	return vm.memory_map.get_dirty_log(log.slot, Hva{pointer32(log.padding2)});
}

Result<> clear_dirty_log(Vm &vm, kvm_clear_dirty_log request)
{
	request.padding2 = pointer32(request.padding2);
	return vm.memory_map.clear_dirty_log(request);
}

long ioctl(Vm &vm, unsigned int command, unsigned long argument)
{
	switch (command) {
	case KVM_GET_DIRTY_LOG:
		return to_long(with_input<kvm_dirty_log>(
			argument, [&](const auto &log) { return get_dirty_log(vm, log); }));
	case KVM_CLEAR_DIRTY_LOG:
		return to_long(with_input<kvm_clear_dirty_log>(
			argument, [&](const auto &request) { return clear_dirty_log(vm, request); }));
	default: return kvmpp_vm_ioctl(&vm, command, argument);
	}
}

} // namespace
} // namespace kvmpp::api

extern "C" {

long kvmpp_vm_ioctl_compat(void *owner, unsigned int command, unsigned long argument)
{
	auto &vm = *static_cast<kvmpp::machine::Vm *>(owner);
	if (!vm.is_current_mm())
		return -EIO;
	return kvmpp::api::ioctl(vm, command, argument);
}
}
