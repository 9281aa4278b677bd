// SPDX-License-Identifier: GPL-2.0-only
// Setting the guest up, and running its routines.
#include "kvmpp/bench/bench_guest.h"

#include <algorithm>
#include <asm/processor-flags.h>
#include "kvmpp/bench/addresses.h"
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/device.h"
#include "kvmpp/refusal.h"
#include "kvmpp/run/processor.h"

namespace kvmpp::command
{

using lib::u16;
using lib::u64;
using lib::u8;

namespace
{

constexpr u64 memory_size = 2 << 20;
constexpr u64 code = 0x8000;

kvm_sregs flat_32bit(kvm_sregs sregs)
{
	const auto flat = [](u16 selector, u8 type) {
		kvm_segment segment{};
		segment.limit = 0xffffffff;
		segment.selector = selector;
		segment.type = type;
		segment.present = segment.s = segment.g = segment.db = 1;
		return segment;
	};
	sregs.cs = flat(0x8, 0xb);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x10, 0x3);
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	return sregs;
}

lib::Machine machine_with_irqchip(const lib::System &system)
{
	lib::Machine machine = create_machine(system);
	need(machine.set_identity_map_address(0xfffbc000));
	need(machine.set_tss_address(0xfffbd000));
	need(machine.create_irqchip());
	return machine;
}

} // namespace

BenchGuest::BenchGuest(const lib::System &system)
	: machine_{machine_with_irqchip(system)}, vcpu_{need(machine_.create_vcpu(0))}
{
	auto memory = need(lib::Mapping::guest_memory(memory_size));
	std::ranges::copy(guest_code(), memory.data() + code);
	need(machine_.add_memory(0, 0, std::move(memory)));

	const bool has_deadline = system.extension(KVM_CAP_TSC_DEADLINE_TIMER);
	need(vcpu_.set_cpuid(cpuid_of(need(system.supported_cpuid()), 0, 1, has_deadline)));
	need(vcpu_.set_sregs(flat_32bit(need(vcpu_.sregs()))));
}

u64 BenchGuest::measure(const std::byte *routine, u64 count, u64 argument)
{
	kvm_regs regs{};
	regs.rip = code + static_cast<u64>(routine - kvmpp_bench_guest);
	regs.rflags = X86_EFLAGS_FIXED;
	regs.rsi = count;
	regs.rdi = argument;
	need(vcpu_.set_regs(regs));

	// Bare, because this round trip is itself what some operations measure.
	const int file = vcpu_.file().number();
	kvm_run &run = vcpu_.shared();
	for (;;) {
		if (::ioctl(file, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			throw Refusal{lib::Error{"KVM_RUN", errno}.message()};
		}
		if (run.exit_reason == KVM_EXIT_MMIO)
			continue;
		if (run.exit_reason != KVM_EXIT_IO)
			throw Refusal{
				"the guest ended with exit " + std::to_string(run.exit_reason)};
		if (run.io.port == BENCH_DONE_PORT)
			break;
	}
	// The port write is complete only when the processor has been entered again.
	vcpu_.request_exit();
	need(vcpu_.run());
	vcpu_.request_exit(false);
	return need(vcpu_.regs()).rbp;
}

} // namespace kvmpp::command
