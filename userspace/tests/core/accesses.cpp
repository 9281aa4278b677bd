// SPDX-License-Identifier: GPL-2.0-only
#include "tests/core/accesses.h"

#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::ExitReason;
using x86::Gpr;
namespace msr = x86::msr;

constexpr u64 code = 0x1000;

struct Kind {
	const char *name;
	sim::GuestProgram exit;
	unsigned max_reads = 0, max_writes = 0;
	bool with_chips = false;
	u8 instruction[4] = {0x90, 0x90, 0x90, 0x90}; // at RIP, for what is emulated
};

GuestExit cr_access(u64 qualification)
{
	return GuestExit::of(ExitReason::cr_access, qualification, 3);
}

GuestExit device(u64 address, bool write)
{
	GuestExit exit = GuestExit::of(ExitReason::ept_violation, (write ? 2 : 1) | 3 << 7);
	exit.guest_physical = address;
	return exit;
}

// The exits, each as the guest causes it again and again.
std::vector<Kind> kinds()
{
	return {
		{"CPUID", [](Guest &g) { return g.cpuid(1); }, 4, 2},
		{"RDMSR", [](Guest &g) { return g.rdmsr(msr::misc_enable); }, 4, 2},
		{"WRMSR", [](Guest &g) { return g.wrmsr(msr::misc_enable, 0); }, 4, 2},
		{"WRMSR of the TSC deadline", [](Guest &g) { return g.wrmsr(msr::tsc_deadline, ~0ull >> 8); },
			4, 2, true},
		// One that there is wants the privilege level, too.
		{"VMCALL, unknown", [](Guest &g) { return g.vmcall(0x7777); }, 4, 2},
		{"VMCALL", [](Guest &g) { return g.vmcall(1); }, 5, 2},
		{"OUT to the VMM", [](Guest &g) { return g.out(0x3f8, 1, 'x'); }, 6, 3},
		{"IN from the VMM", [](Guest &g) { return g.in(0x3fd, 1); }, 6, 3},
		{"OUT to a chip here", [](Guest &g) { return g.out(0x21, 1, 0xff); }, 6, 3, true},
		{"MOV to CR8", [](Guest &) { return cr_access(8); }, 0, 0, true},
		{"MOV to CR0", [n = 0](Guest &g) mutable {
			 g.gprs[Gpr::rax] = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | (++n & 1 ? u64{X86_CR0_CD} : 0);
			 return cr_access(0);
		 }},
		{"XSETBV", [](Guest &g) {
			 g.gprs[Gpr::rcx] = g.gprs[Gpr::rdx] = 0;
			 g.gprs[Gpr::rax] = 1;
			 return GuestExit::of(ExitReason::xsetbv, 0, 3);
		 }},
		{"PAUSE", [](Guest &) { return GuestExit::of(ExitReason::pause, 0, 2); }},
		{"external interrupt", [](Guest &) { return GuestExit::of(ExitReason::external_interrupt); }},
		{"page fault of the host's tables", [n = u64{0}](Guest &) mutable {
			 return device(0x2000 + (n++ % 13) * page_size, true);
		 }},
		{"MOV to a device of the VMM", [](Guest &g) {
			 g.gprs[Gpr::rbx] = 0xd0000000;
			 g.set(vmx::field::guest_rip, code);
			 return device(0xd0000000, true);
		 },
			0, 0, false, {0x89, 0x03}},
		{"write of a local APIC's register",
			[](Guest &) { return GuestExit::of(ExitReason::apic_write, 0xb0); }, 0, 0, true},
		{"MOV from the local APIC", [](Guest &g) {
			 g.gprs[Gpr::rbx] = 0xfee00390;
			 g.set(vmx::field::guest_rip, code);
			 return GuestExit::of(ExitReason::apic_access, 0x390);
		 },
			0, 0, true, {0x8b, 0x03}},
	};
}

ExitCost measure(const Kind &kind)
{
	const Vm vm;
	if (kind.with_chips) {
		EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	}
	// Page tables at 0x8000 map the first 4 GiB as they are.
	const sim::UserMemory ram{16};
	EXPECT_EQ(vm.set_slot(0, 0, ram), 0);
	constexpr u64 all = 7, large = 1 << 7;
	ram.at<u64>(0x8000) = 0x9000 | all;
	for (u64 i = 0; i < 4; ++i)
		ram.at<u64>(0x9000 + i * 8) = i << 30 | all | large;
	std::memcpy(ram.data() + code, kind.instruction, sizeof(kind.instruction));
	const Vcpu vcpu = vm.create_vcpu();
	EXPECT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_long_mode(code, 0x8000);
	kvm_sregs sregs = vcpu.sregs();
	sregs.cr4 |= X86_CR4_OSXSAVE;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);

	// The first rounds find nothing cached; the last two are alike.
	constexpr unsigned rounds = 40;
	unsigned round = 0;
	sim::vtx::Counts at_exit, spent;
	sim::set_guest_program([&](Guest &g) {
		spent = sim::vtx::counts() - at_exit;
		GuestExit exit = ++round < rounds ? kind.exit(g) : GuestExit::of(ExitReason::triple_fault);
		at_exit = sim::vtx::counts();
		return exit;
	});
	while (vcpu.run() == 0 && vcpu.shared().exit_reason != KVM_EXIT_SHUTDOWN) {
	}
	EXPECT_EQ(round, rounds) << kind.name;
	return {kind.name, spent, kind.max_reads, kind.max_writes};
}

} // namespace

std::vector<ExitCost> measure_exits()
{
	std::vector<ExitCost> costs;
	for (const Kind &kind : kinds())
		costs.push_back(measure(kind));
	return costs;
}

} // namespace kvmpp::tests
