// SPDX-License-Identifier: GPL-2.0-only
// ioctls of a VM's descriptor. KVM API, chapter 4, "vm ioctls". Interrupts: vm_irq.cpp.
#include <linux/kvm.h>
#include "api/entry.h"
#include "api/hypervisor.h"
#include "api/msr_filter.h"
#include "api/statistics.h"
#include "api/user.h"
#include "api/vm_irq.h"
#include "machine/vm.h"
#include "run/clock_page.h"

namespace kvmpp::api
{
namespace
{

using machine::Vm;

Result<> set_boot_cpu(Vm &vm, unsigned long id)
{
	return vm.set_bsp(id);
}

Result<> get_clock(Vm &vm, kvm_clock_data &data)
{
	const u64 tsc = kvmpp_tsc(), real = kvmpp_realtime_ns();
	data = {};
	data.clock = vm.clock.at(tsc);
	if (vm.clock.stable()) {
		data.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
		data.realtime = real;
		data.host_tsc = tsc;
	}
	return {};
}

Result<> set_clock(Vm &vm, const kvm_clock_data &data)
{
	if (data.flags & ~machine::Clock::known_flags)
		return fail(EINVAL);
	// The guest's clock went on while it was away, but never goes back.
	const u64 real = kvmpp_realtime_ns();
	const u64 away = data.flags & KVM_CLOCK_REALTIME && real > data.realtime ? real - data.realtime : 0;
	vm.clock.set(data.clock + away);
	// Every processor of a guest reads the first one's page, perhaps before that one runs again: what
	// stands still is rewritten now.
	vm.vcpus.for_each([](machine::Vcpu &vcpu) {
		if (!vcpu.lock.try_lock()) {
			vcpu.mailbox.request_and_kick(machine::Request::clock);
			return;
		}
		run::update_clock_page(vcpu);
		vcpu.lock.unlock();
	});
	return {};
}

Result<> ioeventfd(Vm &vm, const kvm_ioeventfd &request)
{
	return request.flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? vm.ioeventfds.deassign(request)
							   : vm.ioeventfds.assign(request);
}

Result<> set_identity_map(Vm &vm, unsigned long argument)
{
	return with_input<u64>(argument, [&](u64 address) { return vm.set_identity_map_address(address); });
}

// KVM_ENABLE_CAP: what a VM does only if its VMM asks.
// KVM API, 7.33: the window in the high half, flags in the low one.
Result<> enable_notify(Vm &vm, u64 argument)
{
	constexpr u32 known = KVM_X86_NOTIFY_VMEXIT_ENABLED | KVM_X86_NOTIFY_VMEXIT_USER;
	const u32 flags = static_cast<u32>(argument);
	if (!vm.hypervisor.notifies() || flags & ~known || !(flags & KVM_X86_NOTIFY_VMEXIT_ENABLED) ||
		vm.vcpus.count() > 0)
		return fail(EINVAL);
	return vm.change_options([&](auto &options) {
		options.notifies = true;
		options.notifies_vmm = flags & KVM_X86_NOTIFY_VMEXIT_USER;
		options.notify_window = static_cast<u32>(argument >> 32);
	});
}

Result<> enable_capability(Vm &vm, const kvm_enable_cap &request)
{
	if (request.flags)
		return fail(EINVAL);
	switch (request.cap) {
	case KVM_CAP_SPLIT_IRQCHIP: return vm.split_irqchip(request.args[0]);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: return vm.memory_map.set_manual_protect(request.args[0]);
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL: return vm.use_dirty_rings(request.args[0]);
	case KVM_CAP_X2APIC_API: return vm.set_x2apic_api(request.args[0]);
	case KVM_CAP_MAX_VCPU_ID: return vm.set_id_limit(request.args[0]);
	case KVM_CAP_X86_BUS_LOCK_EXIT:
		if (!vm.hypervisor.detects_bus_locks() || (request.args[0] != KVM_BUS_LOCK_DETECTION_OFF &&
								  request.args[0] != KVM_BUS_LOCK_DETECTION_EXIT))
			return fail(EINVAL);
		return vm.change_options([&](auto &options) {
			options.exits_on_bus_lock = request.args[0] == KVM_BUS_LOCK_DETECTION_EXIT;
		});
	case KVM_CAP_X86_NOTIFY_VMEXIT: return enable_notify(vm, request.args[0]);
	case KVM_CAP_HALT_POLL: return vm.set_halt_poll_limit(request.args[0]);
	case KVM_CAP_X86_DISABLE_EXITS:
		if (request.args[0] & ~machine::VmOptions::known_exits())
			return fail(EINVAL);
		return vm.change_options([&](auto &options) {
			options.disabled_exits |= static_cast<u8>(request.args[0]);
		});
	case KVM_CAP_DISABLE_QUIRKS2:
		if (request.args[0] & ~machine::VmOptions::known_quirks)
			return fail(EINVAL);
		[[fallthrough]];
	case KVM_CAP_DISABLE_QUIRKS:
		return vm.change_options([&](auto &options) {
			options.disabled_quirks =
				static_cast<u8>(request.args[0] & machine::VmOptions::known_quirks);
		});
	case KVM_CAP_EXCEPTION_PAYLOAD:
		return vm.change_options([&](auto &options) { options.exception_payload = request.args[0]; });
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		return vm.change_options([&](auto &options) { options.triple_fault_event = request.args[0]; });
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (request.args[0] & ~u64{1})
			return fail(EINVAL);
		return vm.change_options(
			[&](auto &options) { options.exit_on_emulation_failure = request.args[0]; });
	case KVM_CAP_MSR_PLATFORM_INFO:
		return vm.change_options([&](auto &options) { options.hides_platform_info = !request.args[0]; });
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (request.args[0] & ~u64{user_msr_reasons})
			return fail(EINVAL);
		return vm.change_options([&](auto &options) {
			options.user_msr_reasons = static_cast<u8>(request.args[0]);
		});
	default: return fail(EINVAL);
	}
}

long ioctl(Vm &vm, unsigned int command, unsigned long argument)
{
	switch (command) {
	case KVM_CHECK_EXTENSION: return check_extension(static_cast<long>(argument));
	case KVM_ENABLE_CAP:
		return to_long(with_input<kvm_enable_cap>(
			argument, [&](const auto &request) { return enable_capability(vm, request); }));
	case KVM_REGISTER_COALESCED_MMIO:
		return to_long(with_input<kvm_coalesced_mmio_zone>(
			argument, [&](const auto &zone) { return vm.coalesced.add(zone); }));
	case KVM_UNREGISTER_COALESCED_MMIO:
		return to_long(with_input<kvm_coalesced_mmio_zone>(
			argument, [&](const auto &zone) { return vm.coalesced.remove(zone); }));
	case KVM_CREATE_VCPU: return to_long(vm.create_vcpu(argument));
	case KVM_SET_USER_MEMORY_REGION:
		return to_long(with_input<kvm_userspace_memory_region>(
			argument, [&](const auto &region) { return vm.memory_map.set(region); }));
	case KVM_GET_DIRTY_LOG:
		return to_long(with_input<kvm_dirty_log>(argument, [&](const auto &log) {
			return vm.memory_map.get_dirty_log(log.slot, Hva{log.padding2});
		}));
	case KVM_CLEAR_DIRTY_LOG:
		return to_long(with_input<kvm_clear_dirty_log>(
			argument, [&](const auto &request) { return vm.memory_map.clear_dirty_log(request); }));
	case KVM_RESET_DIRTY_RINGS: return to_long(vm.reset_dirty_rings());
	case KVM_SET_TSS_ADDR: return to_long(vm.set_tss_address(argument));
	case KVM_SET_IDENTITY_MAP_ADDR: return to_long(set_identity_map(vm, argument));
	case KVM_SET_BOOT_CPU_ID: return to_long(set_boot_cpu(vm, argument));
	case KVM_GET_CLOCK:
		return to_long(with_output<kvm_clock_data>(
			argument, [&](auto &data) { return get_clock(vm, data); }));
	case KVM_SET_CLOCK:
		return to_long(with_input<kvm_clock_data>(
			argument, [&](const auto &data) { return set_clock(vm, data); }));
	case KVM_X86_SET_MSR_FILTER:
		return to_long(with_input<kvm_msr_filter>(
			argument, [&](const auto &filter) { return set_msr_filter(vm, filter); }));
	case KVM_GET_TSC_KHZ: return vm.tsc_khz();
	case KVM_SET_TSC_KHZ:
		return argument >> 32 ? -EINVAL : to_long(vm.set_tsc_khz(static_cast<u32>(argument)));
	case KVM_GET_STATS_FD: return to_long(statistics_file(vm));
	case KVM_IOEVENTFD:
		return to_long(with_input<kvm_ioeventfd>(
			argument, [&](const auto &request) { return ioeventfd(vm, request); }));
	default: return vm_irq_ioctl(vm, command, argument);
	}
}

} // namespace
} // namespace kvmpp::api

extern "C" {

long kvmpp_vm_ioctl(void *owner, unsigned int command, unsigned long argument)
{
	auto &vm = *static_cast<kvmpp::machine::Vm *>(owner);
	// A VM's memory is that of one address space; in another, nothing here means what it says.
	if (!vm.is_current_mm())
		return -EIO;
	return kvmpp::api::ioctl(vm, command, argument);
}

void kvmpp_vm_release(void *vm)
{
	static_cast<kvmpp::machine::Vm *>(vm)->put();
}
}
