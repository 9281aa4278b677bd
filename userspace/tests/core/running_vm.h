// SPDX-License-Identifier: GPL-2.0-only
// A VM whose vCPUs run in threads of their own, while a test does things to it.
#pragma once

#include <thread>
#include "tests/core/dirty_ring.h"

namespace kvmpp::tests
{

// One that keeps touching memory and exits in between.
// Each guest has bytes of its own: what two processors write at once is not ours to judge.
inline sim::GuestProgram busy_guest(std::atomic<bool> &stop, u64 id)
{
	return [&stop, id, n = u64{0}](Guest &g) mutable -> GuestExit {
		if (stop)
			return GuestExit::of(vmx::ExitReason::triple_fault);
		++n;
		u64 value = n;
		switch (n % 4) {
		case 0:
			if (const auto exit = g.write(n * 712 % 0x10000 + id, &value, 1))
				return *exit;
			return g.cpuid(1);
		case 1:
			if (const auto exit = g.read(n * 316 % 0x10000 + id, &value, 1))
				return *exit;
			return GuestExit::of(vmx::ExitReason::pause, 0, 2);
		case 2: return g.wrmsr(0x277, 0x0606060606060606);
		default: return GuestExit::of(vmx::ExitReason::external_interrupt);
		}
	};
}

// Two vCPUs that run until they are told to stop, whatever their exits are.
class RunningVm {
public:
	using Program = sim::GuestProgram (*)(std::atomic<bool> &stop, u64 id);

	explicit RunningVm(bool chips = false, Program program = busy_guest, u64 ring_bytes = 0)
	{
		if (ring_bytes) {
			EXPECT_EQ(use_rings(vm, ring_bytes), 0);
		}
		if (chips) {
			EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
		}
		EXPECT_EQ(vm.set_slot(0, 0, ram, ring_bytes ? KVM_MEM_LOG_DIRTY_PAGES : 0), 0);
		if (chips)
			std::memcpy(ram.data() + 0x1000, "\xa1\x30\x00\xe0\xfe", 5); // mov eax, [0xfee00030]
		for (u64 id = 0; id < 2; ++id) {
			vcpus[id] = vm.create_vcpu(id);
			EXPECT_EQ(vcpus[id].set_supported_cpuid(), 0);
			vcpus[id].enter_protected_mode(0x1000);
			kvm_mp_state state{.mp_state = KVM_MP_STATE_RUNNABLE};
			EXPECT_EQ(vcpus[id].ioctl(KVM_SET_MP_STATE, &state), 0);
		}
		for (u64 id = 0; id < 2; ++id)
			threads.emplace_back([this, id, program] {
				sim::set_guest_program(program(stop, id));
				while (!stop) {
					const long result = vcpus[id].run();
					EXPECT_TRUE(result == 0 || result == -EFAULT) << result;
				}
			});
	}
	~RunningVm() { join(); }
	void join()
	{
		stop = true;
		for (std::thread &thread : threads)
			if (thread.joinable())
				thread.join();
	}

	Vm vm;
	sim::UserMemory ram{16};
	Vcpu vcpus[2];
	std::atomic<bool> stop{false};
	std::vector<std::thread> threads;
};

} // namespace kvmpp::tests
