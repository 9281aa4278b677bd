// SPDX-License-Identifier: GPL-2.0-only
// Every call that may fail does, once in turn: the right error comes, nothing is left behind, and the
// next attempt succeeds.
#include <functional>
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

using sim::everything_of_the_host;

class Faults : public Machine {
protected:
	// attempt(): a result as an ioctl's; undo() after a success. Where `before` says nothing is
	// kept, nothing of a failed attempt is.
	void each_fails(const std::function<long()> &attempt, const std::function<void(long)> &undo,
		u32 kinds = everything_of_the_host)
	{
		// What is made once and stays, such as room for the first vCPU, is made.
		const long first = attempt();
		ASSERT_GE(first, 0) << first;
		undo(first);
		const Given before;
		const unsigned failures = sim::with_each_failing(kinds, [&](unsigned n) {
			const long result = attempt();
			const bool hit = sim::failed();
			sim::fail_nothing();
			if (result < 0) {
				EXPECT_TRUE(hit) << result;
				EXPECT_TRUE(result == -ENOMEM || result == -EMFILE || result == -EFAULT ||
					    result == -EINTR)
					<< result << " at failure " << n;
				EXPECT_EQ(Given{}, before) << "failure " << n;
				const long again = attempt();
				EXPECT_GE(again, 0) << "after failure " << n;
				undo(again);
			} else {
				undo(result);
			}
			EXPECT_EQ(Given{}, before) << "failure " << n;
		});
		EXPECT_GT(failures, 0u);
	}
};

class Loading : public Faults {
protected:
	Loading() { load_at_start_ = false; }
};

TEST_F(Loading, Load)
{
	each_fails(
		[&]() -> long {
			sim::InKernel kernel;
			return kvmpp_start(true);
		},
		[&](long) {
			sim::InKernel kernel;
			kvmpp_stop();
		});
}

void close_it(long fd)
{
	sim::close(static_cast<int>(fd));
}

TEST_F(Faults, VmCreation)
{
	each_fails([] { return sim::system_ioctl(KVM_CREATE_VM); }, close_it);
}

// A vCPU stays with its VM, so the VM goes as well.
void fail_vcpu_creation(const std::function<void(const Vm &)> &prepare)
{
	for (unsigned n = 0;; ++n) {
		const Given before;
		bool hit;
		{
			const Vm vm;
			prepare(vm);
			const Given prepared;
			sim::fail_after(n, everything_of_the_host);
			const long result = vm.ioctl(KVM_CREATE_VCPU, 0ul);
			hit = sim::failed();
			sim::fail_nothing();
			if (result < 0) {
				EXPECT_TRUE(hit);
				EXPECT_TRUE(result == -ENOMEM || result == -EMFILE) << result;
				const Vcpu again = vm.create_vcpu(0);
				EXPECT_GE(again.fd(), 0) << "after failure " << n;
			} else {
				close_it(result);
			}
		}
		EXPECT_EQ(Given{}, before) << "failure " << n;
		if (!hit) {
			EXPECT_GT(n, 5u);
			return;
		}
	}
}

TEST_F(Faults, VcpuCreation)
{
	fail_vcpu_creation([](const Vm &) {});
}

TEST_F(Faults, VcpuCreationWithLocalApic)
{
	fail_vcpu_creation([](const Vm &vm) { EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0); });
}

TEST_F(Faults, Slots)
{
	const Vm vm;
	const sim::UserMemory ram{16};
	const auto remove = [&](long) { EXPECT_EQ(vm.set_slot(1, 0, ram.address(), 0), 0); };
	each_fails([&] { return vm.set_slot(1, 0x10000, ram); }, remove);
	each_fails([&] { return vm.set_slot(1, 0x10000, ram, KVM_MEM_LOG_DIRTY_PAGES); }, remove);

	// Moved there and back.
	ASSERT_EQ(vm.set_slot(0, 0x100000, ram), 0);
	each_fails([&] { return vm.set_slot(0, 0x200000, ram); },
		[&](long) { EXPECT_EQ(vm.set_slot(0, 0x100000, ram), 0); });
	each_fails([&] { return vm.set_slot(0, 0x100000, ram, KVM_MEM_LOG_DIRTY_PAGES); },
		[&](long) { EXPECT_EQ(vm.set_slot(0, 0x100000, ram), 0); });
	each_fails([&] { return vm.set_slot(0, 0, ram.address(), 0); },
		[&](long) { EXPECT_EQ(vm.set_slot(0, 0x100000, ram), 0); });
}

TEST_F(Faults, DirtyLogs)
{
	const Vm vm;
	const sim::UserMemory ram{128};
	ASSERT_EQ(vm.set_slot(0, 0, ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	u64 bitmap[2];
	const sim::UserArgument memory{bitmap, sizeof(bitmap)};
	each_fails(
		[&] {
			kvm_dirty_log log{};
			log.dirty_bitmap = bitmap;
			return vm.ioctl(KVM_GET_DIRTY_LOG, &log);
		},
		[](long) {});
	each_fails(
		[&] {
			kvm_clear_dirty_log log{};
			log.num_pages = 128;
			log.dirty_bitmap = bitmap;
			return vm.ioctl(KVM_CLEAR_DIRTY_LOG, &log);
		},
		[](long) {});
}

TEST_F(Faults, Irqchip)
{
	for (unsigned n = 0;; ++n) {
		const Given before;
		bool hit;
		{
			const Vm vm;
			sim::fail_after(n, everything_of_the_host);
			const long result = vm.ioctl(KVM_CREATE_IRQCHIP);
			hit = sim::failed();
			sim::fail_nothing();
			if (hit) {
				EXPECT_EQ(result, -ENOMEM);
				EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0) << "after failure " << n;
			}
			EXPECT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), -EEXIST);
		}
		EXPECT_EQ(Given{}, before) << "failure " << n;
		if (!hit)
			break;
	}
}

TEST_F(Faults, Pit)
{
	for (unsigned n = 0;; ++n) {
		const Given before;
		bool hit;
		{
			const Vm vm;
			ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
			kvm_pit_config config{.flags = KVM_PIT_SPEAKER_DUMMY, .pad = {}};
			sim::fail_after(n, everything_of_the_host);
			const long result = vm.ioctl(KVM_CREATE_PIT2, &config);
			hit = sim::failed();
			sim::fail_nothing();
			if (hit) {
				EXPECT_TRUE(result == -ENOMEM || result == -EFAULT) << result;
				EXPECT_EQ(vm.ioctl(KVM_CREATE_PIT2, &config), 0) << "after failure " << n;
			}
			EXPECT_EQ(vm.ioctl(KVM_CREATE_PIT2, &config), -EEXIST);
		}
		EXPECT_EQ(Given{}, before) << "failure " << n;
		if (!hit)
			break;
	}
}

TEST_F(Faults, Irqfds)
{
	const Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const Descriptor trigger{sim::make_eventfd()}, resample{sim::make_eventfd()};
	kvm_irqfd request{};
	request.fd = static_cast<u32>(trigger.number());
	request.gsi = 5;
	const auto deassign = [&](long) {
		kvm_irqfd gone = request;
		gone.flags = KVM_IRQFD_FLAG_DEASSIGN;
		EXPECT_EQ(vm.ioctl(KVM_IRQFD, &gone), 0);
	};
	each_fails([&] { return vm.ioctl(KVM_IRQFD, &request); }, deassign);
	request.flags = KVM_IRQFD_FLAG_RESAMPLE;
	request.resamplefd = static_cast<u32>(resample.number());
	each_fails([&] { return vm.ioctl(KVM_IRQFD, &request); }, deassign);
}

TEST_F(Faults, IoEventfds)
{
	const Vm vm;
	const Descriptor eventfd{sim::make_eventfd()};
	for (const u32 flags : {0u, u32{KVM_IOEVENTFD_FLAG_PIO}}) {
		kvm_ioeventfd request{};
		request.addr = 0x500;
		request.len = 2;
		request.fd = eventfd.number();
		request.flags = flags;
		each_fails([&] { return vm.ioctl(KVM_IOEVENTFD, &request); },
			[&](long) {
				kvm_ioeventfd gone = request;
				gone.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
				EXPECT_EQ(vm.ioctl(KVM_IOEVENTFD, &gone), 0);
			});
	}
}

TEST_F(Faults, Routes)
{
	const Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	struct {
		kvm_irq_routing header{.nr = 1, .flags = 0, .entries = {}};
		kvm_irq_routing_entry entry{};
	} routing;
	routing.entry.gsi = 9;
	routing.entry.type = KVM_IRQ_ROUTING_MSI;
	each_fails([&] { return vm.ioctl(KVM_SET_GSI_ROUTING, &routing); }, [](long) {});
}

TEST_F(Faults, CoalescedZones)
{
	const Vm vm;
	kvm_coalesced_mmio_zone zone{};
	zone.addr = 0xb8000;
	zone.size = 0x1000;
	each_fails([&] { return vm.ioctl(KVM_REGISTER_COALESCED_MMIO, &zone); },
		[&](long) { EXPECT_EQ(vm.ioctl(KVM_UNREGISTER_COALESCED_MMIO, &zone), 0); });
}

TEST_F(Faults, StatisticsFiles)
{
	const Vm vm;
	const Vcpu vcpu = vm.create_vcpu();
	each_fails([&] { return vm.ioctl(KVM_GET_STATS_FD); }, close_it);
	each_fails([&] { return sim::ioctl(vcpu.fd(), KVM_GET_STATS_FD); }, close_it);
}

template <class T>
void get_and_set(const std::function<void(const std::function<long()> &)> &each, const Vcpu &vcpu,
	unsigned get, unsigned set)
{
	auto state = std::make_unique<T>();
	each([&] { return vcpu.ioctl(get, state.get()); });
	each([&] { return vcpu.ioctl(set, state.get()); });
}

TEST_F(Faults, VcpuState)
{
	const Vm vm;
	ASSERT_EQ(vm.ioctl(KVM_CREATE_IRQCHIP), 0);
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_EQ(vcpu.set_supported_cpuid(), 0);
	const auto each = [&](const std::function<long()> &attempt) { each_fails(attempt, [](long) {}); };
	get_and_set<kvm_regs>(each, vcpu, KVM_GET_REGS, KVM_SET_REGS);
	get_and_set<kvm_sregs>(each, vcpu, KVM_GET_SREGS, KVM_SET_SREGS);
	get_and_set<kvm_debugregs>(each, vcpu, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS);
	get_and_set<kvm_fpu>(each, vcpu, KVM_GET_FPU, KVM_SET_FPU);
	get_and_set<kvm_xsave>(each, vcpu, KVM_GET_XSAVE, KVM_SET_XSAVE);
	get_and_set<kvm_xcrs>(each, vcpu, KVM_GET_XCRS, KVM_SET_XCRS);
	get_and_set<kvm_lapic_state>(each, vcpu, KVM_GET_LAPIC, KVM_SET_LAPIC);
	get_and_set<kvm_vcpu_events>(each, vcpu, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS);
	get_and_set<kvm_mp_state>(each, vcpu, KVM_GET_MP_STATE, KVM_SET_MP_STATE);
}

TEST_F(Faults, CpuidAndMsrs)
{
	const Guest32 guest;
	const auto nothing = [](long) {};
	const auto table = supported_cpuid();
	each_fails([&] { return guest.vcpu.ioctl(KVM_SET_CPUID2, table.get()); }, nothing);
	each_fails([&] { return guest.vcpu.ioctl(KVM_GET_CPUID2, table.get()); }, nothing);
	each_fails([&] { return sim::system_ioctl(KVM_GET_SUPPORTED_CPUID, table.get()); }, nothing);
	each_fails([&] { return guest.vcpu.set_msr(0x277, 0x0606060606060606) == 1 ? 0l : -ENOMEM; }, nothing,
		static_cast<u32>(sim::Fallible::allocation));
}

TEST_F(Faults, PageFaults)
{
	for (unsigned n = 0;; ++n) {
		const Given before;
		bool hit;
		{
			const Guest32 guest;
			const auto program = [](Guest &g) {
				u32 value = 1;
				const auto exit = g.write(0x9000, &value, sizeof(value));
				return exit ? *exit : g.hlt();
			};
			// Once before, so that what a first run makes is made.
			ASSERT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
			sim::fail_after(n, everything_of_the_host);
			const long result = guest.vcpu.run(program);
			hit = sim::failed();
			sim::fail_nothing();
			if (hit) {
				EXPECT_TRUE(result == -ENOMEM || result == -EFAULT || result == -EINTR) << result;
			}
			EXPECT_EQ(guest.ram.references(), 0u);
			if (result) {
				EXPECT_EQ(guest.vcpu.run(program), 0) << "after failure " << n;
			}
			EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
			EXPECT_EQ(guest.ram.at<u32>(0x9000), 1u);
		}
		EXPECT_EQ(Given{}, before) << "failure " << n;
		if (!hit) {
			EXPECT_GT(n, 3u);
			return;
		}
	}
}

// --- the processor ---------------------------------------------------------------------------------

class VtxFaults : public Machine {
protected:
	VtxFaults() { refusals_expected_ = true; }
};

// The life of a VM, of which any step may fail, but none may do harm.
void live_and_let_die()
{
	const Vm vm;
	if (vm.fd() < 0)
		return;
	const sim::UserMemory ram{16};
	EXPECT_EQ(vm.set_slot(0, 0, ram), 0);
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_GE(vcpu.fd(), 0);
	(void)vcpu.set_supported_cpuid();
	kvm_sregs sregs{};
	kvm_regs regs{};
	(void)vcpu.ioctl(KVM_GET_SREGS, &sregs);
	(void)vcpu.ioctl(KVM_GET_REGS, &regs);
	sim::set_guest_program(sim::in_turn({[](Guest &g) { return g.cpuid(0); },
		[](Guest &g) {
			u32 value = 0;
			const auto exit = g.write(0x3000, &value, sizeof(value));
			return exit ? *exit : g.hlt();
		},
		[](Guest &g) { return g.hlt(); }}));
	for (unsigned i = 0; i < 3; ++i) {
		const long result = vcpu.run();
		const u32 reason = vcpu.shared().exit_reason;
		EXPECT_TRUE(result == 0 || result == -EIO) << result;
		if (!result) {
			EXPECT_TRUE(reason == KVM_EXIT_HLT || reason == KVM_EXIT_FAIL_ENTRY ||
				    reason == KVM_EXIT_SHUTDOWN || reason == KVM_EXIT_INTERNAL_ERROR ||
				    reason == KVM_EXIT_MMIO || reason == KVM_EXIT_IO)
				<< reason;
		}
	}
}

void each_instruction_fails(sim::Fallible kind)
{
	for (unsigned n = 0;; ++n) {
		const Given before;
		const sim::LogCapture log;
		sim::fail_after(n, static_cast<u32>(kind));
		live_and_let_die();
		const bool hit = sim::failed();
		sim::fail_nothing();
		ASSERT_EQ(Given{}, before) << "failure " << n;
		{
			const Guest32 guest;
			EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0) << "after failure " << n;
			EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT}) << "after failure " << n;
		}
		if (!hit) {
			EXPECT_GT(n, 100u);
			return;
		}
	}
}

TEST_F(VtxFaults, EachInstruction)
{
	each_instruction_fails(sim::Fallible::vmx_instruction);
}

TEST_F(VtxFaults, VtxIsTakenAwayBeforeEachInstruction)
{
	each_instruction_fails(sim::Fallible::vtx_lost);
}

} // namespace
} // namespace kvmpp::tests
