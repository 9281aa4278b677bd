// SPDX-License-Identifier: GPL-2.0-only
// Operations that are ioctls, measured around them.
#include <x86intrin.h>
#include "kvmpp/bench/addresses.h"
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/bench/measuring.h"
#include "kvmpp/refusal.h"
#include "kvmpp/run/processor.h"

namespace kvmpp::command
{

using lib::u64;
using namespace measuring;

namespace
{

constexpr u64 times_for_machines = 1;

u64 now()
{
	_mm_lfence();
	return __rdtsc();
}

template <class Action>
u64 here(u64 count, Action &&action)
{
	action();
	return median([&] {
		const u64 start = now();
		for (u64 i = 0; i < count; i++)
			action();
		return (now() - start) / count;
	});
}

// The ioctl itself, without the library's comfort around it.
template <class... Argument>
void must(const lib::FileDescriptor &file, unsigned long request, const char *name,
	Argument... argument)
{
	if (::ioctl(file.number(), request, argument...) < 0)
		throw Refusal{lib::Error{name, errno}.message()};
}

// Each writes back what `fill_request` read.
template <class State>
u64 vcpu_ioctl(
	Context &context, unsigned long request, unsigned long fill_request, const char *name)
{
	const lib::FileDescriptor &vcpu = context.guest().vcpu().file();
	State state;
	must(vcpu, fill_request, name, &state);
	return here(batch, [&] { must(vcpu, request, name, &state); });
}

} // namespace

u64 null_ioctl(Context &context)
{
	return here(batch, [&] {
		must(context.system.file(), KVM_GET_API_VERSION, "KVM_GET_API_VERSION", 0);
	});
}

u64 get_regs(Context &context)
{
	return vcpu_ioctl<kvm_regs>(context, KVM_GET_REGS, KVM_GET_REGS, "KVM_GET_REGS");
}

u64 get_sregs(Context &context)
{
	return vcpu_ioctl<kvm_sregs>(context, KVM_GET_SREGS, KVM_GET_SREGS, "KVM_GET_SREGS");
}

u64 set_sregs(Context &context)
{
	return vcpu_ioctl<kvm_sregs>(context, KVM_SET_SREGS, KVM_GET_SREGS, "KVM_SET_SREGS");
}

u64 slot_add_delete(Context &context)
{
	const lib::FileDescriptor &machine = context.guest().machine().file();
	const auto memory = need(lib::Mapping::shared_memory(16 * page));
	kvm_userspace_memory_region region{};
	region.slot = extra_slot;
	region.guest_phys_addr = BENCH_EXTRA_MEMORY;
	region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory.data());
	const auto set = [&](u64 size) {
		region.memory_size = size;
		must(machine, KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
	};
	constexpr u64 times = 8;
	return here(times, [&] {
		set(memory.size());
		set(0);
	});
}

u64 machine_create_close(Context &context)
{
	context.present.reset(); // it would keep VT-x switched on
	return here(times_for_machines, [&] { need(context.system.create_machine()); });
}

Measure machine_life(bool run)
{
	return [=](Context &context) {
		context.present.reset();
		const lib::Cpuid cpuid =
			cpuid_of(need(context.system.supported_cpuid()), 0, 1, false);
		return here(times_for_machines, [&] {
			auto machine = need(context.system.create_machine());
			auto memory = need(lib::Mapping::shared_memory(16 * page));
			*memory.data() = *kvmpp_bench_halt;
			need(machine.add_memory(0, 0, std::move(memory)));
			const auto vcpu = need(machine.create_vcpu(0));
			need(vcpu.set_cpuid(cpuid));
			if (!run)
				return;
			kvm_sregs sregs = need(vcpu.sregs());
			sregs.cs.base = sregs.cs.selector = 0;
			need(vcpu.set_sregs(sregs));
			kvm_regs regs{};
			regs.rflags = 2;
			need(vcpu.set_regs(regs));
			if (!std::holds_alternative<lib::exits::Halt>(need(vcpu.run())))
				throw Refusal{"the guest did not halt"};
		});
	};
}

} // namespace kvmpp::command
