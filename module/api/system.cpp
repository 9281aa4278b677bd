// SPDX-License-Identifier: GPL-2.0-only
// ioctls of /dev/kvmpp, and the module's start and stop. KVM API, chapter 4, "system ioctls".
#include <algorithm>
#include <linux/kvm.h>
#include "api/attributes.h"
#include "api/entry.h"
#include "api/hypervisor.h"
#include "api/msrs.h"
#include "api/user.h"
#include "host/file.h"
#include "machine/vm.h"
#include "run/msrs.h"
#include "uapi/kvm_abi.h"

namespace kvmpp::api
{
namespace
{

constinit machine::Hypervisor *the_hypervisor = nullptr;

Result<long> create_vm(unsigned long type)
{
	if (type != 0)
		return fail(EINVAL);
	machine::Vm *vm = TRY(machine::Vm::create(hypervisor()));
	auto file = host::NewFile::for_vm(vm);
	if (!file) {
		vm->put();
		return std::unexpected(file.error());
	}
	return file->install();
}

Result<> get_supported_cpuid(unsigned long argument)
{
	auto header = TRY(host::user_get<kvm_cpuid2>(Hva{argument}));
	if (header.nent < 1)
		return fail(E2BIG);
	const usize room = std::min<usize>(header.nent, x86::Cpuid::max_entries);
	auto entries = TRY(host::Array<kvm_cpuid_entry2>::create(room));
	const usize count = TRY(x86::supported_cpuid(hypervisor().cpuid_host(), entries.span()));
	header.nent = count;
	TRY(host::user_put(Hva{argument}, header));
	return host::user_write(items_of<kvm_cpuid2, kvm_cpuid_entry2>(argument), entries.data(),
		count * sizeof(kvm_cpuid_entry2));
}

// The count always comes back, so that a client can make room and ask again.
Result<> get_msr_list(unsigned long argument, std::span<const u32> list)
{
	auto header = TRY(host::user_get<kvm_msr_list>(Hva{argument}));
	const u32 room = header.nmsrs;
	header.nmsrs = list.size();
	TRY(host::user_put(Hva{argument}, header));
	if (room < list.size())
		return fail(E2BIG);
	return host::user_write(items_of<kvm_msr_list, u32>(argument), list.data(), list.size_bytes());
}

Result<long> get_feature_msrs(unsigned long argument)
{
	return for_each_msr(argument, true, [](kvm_msr_entry &entry) {
		const auto value = run::read_feature_msr(hypervisor(), entry.index);
		entry.data = value.value_or(0);
		return value.has_value();
	});
}

long ioctl(unsigned int command, unsigned long argument)
{
	switch (command) {
	case KVM_GET_API_VERSION: return argument ? -EINVAL : KVM_API_VERSION;
	case KVM_CREATE_VM: return to_long(create_vm(argument));
	case KVM_CHECK_EXTENSION: return check_extension(static_cast<long>(argument));
	case KVM_GET_VCPU_MMAP_SIZE:
		return argument ? -EINVAL : static_cast<long>(machine::Vcpu::mmap_pages * page_size);
	case KVM_GET_SUPPORTED_CPUID: return to_long(get_supported_cpuid(argument));
	case KVM_GET_MSR_INDEX_LIST: return to_long(get_msr_list(argument, run::saved_msrs()));
	case KVM_GET_MSR_FEATURE_INDEX_LIST: return to_long(get_msr_list(argument, run::feature_msrs()));
	case KVM_GET_MSRS: return to_long(get_feature_msrs(argument));
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		return to_long(host::user_put(Hva{argument}, x86::MachineCheck::supported));
	case KVM_HAS_DEVICE_ATTR:
	case KVM_GET_DEVICE_ATTR:
		return to_long(with_input<kvm_device_attr>(argument,
			[&](const auto &attribute) { return system_attribute(command, attribute); }));
	// KVM's first trace facility, long gone.
	case __KVM_DEPRECATED_MAIN_W_0x06:
	case __KVM_DEPRECATED_MAIN_0x07:
	case __KVM_DEPRECATED_MAIN_0x08: return -EOPNOTSUPP;
	default: return -EINVAL;
	}
}

} // namespace

machine::Hypervisor &hypervisor()
{
	return *the_hypervisor;
}

} // namespace kvmpp::api

extern "C" {

int kvmpp_start(int exclusive)
{
	using kvmpp::vmx::Sharing;
	auto made = kvmpp::machine::Hypervisor::create(
		exclusive ? Sharing::exclusive : Sharing::on_demand);
	if (!made)
		return -made.error().value();
	kvmpp::api::the_hypervisor = made->release();
	return 0;
}

void kvmpp_stop(void)
{
	kvmpp::host::Own<kvmpp::machine::Hypervisor>{
		std::exchange(kvmpp::api::the_hypervisor, nullptr)};
}

long kvmpp_system_ioctl(unsigned int command, unsigned long argument)
{
	return kvmpp::api::ioctl(command, argument);
}

int kvmpp_cpu_online(void)
{
	const auto result = kvmpp::api::hypervisor().engine().cpu_online();
	return static_cast<int>(kvmpp::api::to_long(result));
}

void kvmpp_cpu_offline(void)
{
	kvmpp::api::hypervisor().engine().cpu_offline();
}

void kvmpp_shutdown(void)
{
	kvmpp::api::hypervisor().engine().shut_down();
}

void kvmpp_cpu_emergency(void)
{
	kvmpp::api::hypervisor().engine().emergency_off();
}
}
