// SPDX-License-Identifier: GPL-2.0-only
// Threads that use one vCPU, or one VM, at the same time: each call is whole, and none is lost.
#include <cerrno>
#include <initializer_list>
#include <iterator>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "interrupts.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");
// Exits of several kinds, without end; RBX and RBP stay equal.
GUEST_CODE(busy, 64, R"(
	sti
1:	out %al, $0x10
	mov $0, %eax
	push %rbx
	cpuid
	pop %rbx
	incl 0x10000
	cmp %rbx, %rbp
	je 1b
	out %al, $0x99
)");
GUEST_CODE(sleeper, 64, APIC_ENABLE "1: incl 0x10000\n sti\n hlt\n jmp 1b\n");
GUEST_CODE(count_interrupt, 64, "push %rdi\n incl 0x10008\n" APIC_WRITE(0b0, 0) "pop %rdi\n iretq\n");

// A body that runs in its own thread, over and over, until the object goes.
template <typename Body>
class Over {
public:
	explicit Over(Body what) : body_(what), thread_(run, this) {}
	~Over() { finish(); }
	void finish()
	{
		stop_ = true;
		thread_.join();
	}

	std::atomic<int> rounds = 0;

private:
	static void run(void *what)
	{
		auto *self = static_cast<Over *>(what);
		while (!self->stop_) {
			self->body_();
			++self->rounds;
		}
	}

	Body body_;
	std::atomic<bool> stop_ = false;
	Thread thread_;
};

// All of them at work for a while, and each at least once.
void let_run(std::initializer_list<const std::atomic<int> *> rounds)
{
	usleep(200'000);
	for (const std::atomic<int> *one : rounds) {
		for (int tries = 0; tries < 3000 && *one == 0; ++tries)
			usleep(10'000);
		CHECK(*one > 0);
	}
}

} // namespace

TEST(registers_are_set_while_the_vcpu_runs)
{
	ignore_interruptions();
	Guest guest{Mode::long_mode, busy};
	kvm_regs start = guest.vcpu.regs();
	{
		Over run{[&] {
			CHECK_EQ(guest.vcpu.enter(), 0);
			CHECK_EQ(guest.vcpu->exit_reason, static_cast<u32>(KVM_EXIT_IO));
			// A pair that was not set together ends the loop.
			CHECK_EQ(guest.vcpu->io.port, 0x10);
		}};
		u64 value = 0;
		Over set{[&] {
			kvm_regs regs = start;
			regs.rbx = regs.rbp = ++value;
			guest.vcpu.set(regs);
		}};
		Over get{[&] {
			kvm_regs regs = guest.vcpu.regs();
			CHECK(regs.rip >= at::code && regs.rip < at::code + busy.size());
		}};
		let_run({&run.rounds, &set.rounds, &get.rounds});
	}
}

TEST(all_state_is_read_and_written_while_the_vcpu_runs)
{
	Guest guest{Mode::long_mode, busy, Guest::with_irqchip};
	{
		Over run{[&] { CHECK_EQ(guest.vcpu.enter(), 0); }};
		Over state{[&] {
			kvm_sregs sregs = guest.vcpu.sregs();
			guest.vcpu.set(sregs);
			kvm_vcpu_events events;
			CHECK_EQ(guest.vcpu.call(KVM_GET_VCPU_EVENTS, &events), 0);
			CHECK_EQ(guest.vcpu.call(KVM_SET_VCPU_EVENTS, &events), 0);
			kvm_fpu fpu;
			CHECK_EQ(guest.vcpu.call(KVM_GET_FPU, &fpu), 0);
			CHECK_EQ(guest.vcpu.call(KVM_SET_FPU, &fpu), 0);
			kvm_debugregs debug;
			CHECK_EQ(guest.vcpu.call(KVM_GET_DEBUGREGS, &debug), 0);
			CHECK_EQ(guest.vcpu.call(KVM_SET_DEBUGREGS, &debug), 0);
			kvm_mp_state mp;
			CHECK_EQ(guest.vcpu.call(KVM_GET_MP_STATE, &mp), 0);
			CHECK_EQ(guest.vcpu.call(KVM_SET_MP_STATE, &mp), 0);
		}};
		Over others{[&] {
			kvm_lapic_state lapic;
			CHECK_EQ(guest.vcpu.call(KVM_GET_LAPIC, &lapic), 0);
			CHECK_EQ(guest.vcpu.call(KVM_SET_LAPIC, &lapic), 0);
			guest.vcpu.msr(0xfe);
			int cpuid = guest.vcpu.set(supported_cpuid());
			CHECK(cpuid == 0 || cpuid == -EINVAL);
		}};
		let_run({&run.rounds, &state.rounds, &others.rounds});
	}
	CHECK(advances(guest.value<u32>(at::data)) || guest.vcpu.enter() == 0);
}

TEST(interrupts_come_while_everything_changes)
{
	Guest guest{Mode::long_mode, sleeper, Guest::with_irqchip};
	guest.set_handler(0x45, count_interrupt);
	{
		Running running{guest};
		CHECK(advances(guest.value<u32>(at::data)));
		Over msi{[&] {
			kvm_msi message{};
			message.address_lo = 0xfee00000;
			message.data = 0x45;
			CHECK(guest.vm.call(KVM_SIGNAL_MSI, &message) >= 0);
		}};
		Over line{[&] {
			kvm_irq_level level{};
			level.irq = 10;
			for (u32 on : {1u, 0u}) {
				level.level = on;
				CHECK_EQ(guest.vm.call(KVM_IRQ_LINE, &level), 0);
			}
		}};
		unsigned irqfds_made = 0;
		Over irqfds{[&] {
			Fd event{eventfd(0, EFD_CLOEXEC)};
			kvm_irqfd irqfd{};
			irqfd.fd = static_cast<u32>(event.number());
			irqfd.gsi = 11;
			CHECK_EQ(guest.vm.call(KVM_IRQFD, &irqfd), 0);
			eventfd_write(event.number(), 1);
			// Every other one goes with its file.
			irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
			if (irqfds_made++ % 2)
				CHECK_EQ(guest.vm.call(KVM_IRQFD, &irqfd), 0);
		}};
		Over routes{[&] {
			struct {
				kvm_irq_routing header;
				kvm_irq_routing_entry entries[12];
			} table{};
			table.header.nr = std::size(table.entries);
			for (u32 i = 0; i < std::size(table.entries); ++i) {
				table.entries[i].gsi = i;
				table.entries[i].type = KVM_IRQ_ROUTING_IRQCHIP;
				table.entries[i].u.irqchip = {KVM_IRQCHIP_IOAPIC, i};
			}
			CHECK_EQ(guest.vm.call(KVM_SET_GSI_ROUTING, &table), 0);
		}};
		let_run({&msi.rounds, &line.rounds, &irqfds.rounds, &routes.rounds});
	}
	CHECK(guest.value<u32>(at::data + 8) > 0);
}

TEST(slots_change_while_vcpus_run)
{
	Guest guest{Mode::long_mode, busy};
	Backing more{16 * page};
	{
		Over run{[&] { CHECK_EQ(guest.vcpu.enter(), 0); }};
		Over slots{[&] {
			CHECK_EQ(guest.vm.set_slot(3, 0x40000000, 16 * page, more.bytes()), 0);
			CHECK_EQ(guest.vm.set_slot(3, 0x50000000, 16 * page, more.bytes()), 0);
			CHECK_EQ(guest.vm.set_slot(3, 0, 0, nullptr), 0);
		}};
		Over log{[&] {
			u64 bitmap[Guest::memory_size / page / 64];
			kvm_dirty_log request{};
			request.dirty_bitmap = bitmap;
			CHECK_EQ(guest.vm.set_slot(0, 0, Guest::memory_size, guest.memory.bytes(),
					 KVM_MEM_LOG_DIRTY_PAGES),
				0);
			CHECK_EQ(guest.vm.call(KVM_GET_DIRTY_LOG, &request), 0);
			CHECK_EQ(guest.vm.set_slot(0, 0, Guest::memory_size, guest.memory.bytes()),
				0);
		}};
		Over drop{[&] { madvise(more.bytes(), more.size(), MADV_DONTNEED); }};
		let_run({&run.rounds, &slots.rounds, &log.rounds, &drop.rounds});
	}
}

TEST(vcpus_are_made_while_others_run)
{
	Guest guest{Mode::long_mode, busy, Guest::with_irqchip};
	std::atomic<u64> next = 1;
	auto make = [&] {
		u64 id = next++;
		if (id < 60)
			Vcpu{guest.system, guest.vm, id};
		else
			usleep(1000);
	};
	{
		Over run{[&] { CHECK_EQ(guest.vcpu.enter(), 0); }};
		Over one{make}, other{make};
		Over broadcast{[&] {
			kvm_msi message{};
			message.address_lo = 0xfeeff000;
			message.data = 0x45;
			guest.vm.call(KVM_SIGNAL_MSI, &message);
		}};
		let_run({&run.rounds, &one.rounds, &other.rounds, &broadcast.rounds});
	}
}

TEST(the_same_vcpu_is_made_once)
{
	System system;
	Vm vm{system};
	for (u64 id = 0; id < 20; ++id) {
		std::atomic<int> made = 0, refused = 0;
		auto body = [&] {
			Fd file{vm.call(KVM_CREATE_VCPU, id)};
			(file.number() >= 0 ? made : refused)++;
		};
		struct Start {
			decltype(body) &make;
		} start{body};
		auto run = [](void *what) { static_cast<Start *>(what)->make(); };
		{
			Thread one{run, &start}, other{run, &start};
		}
		CHECK_EQ(made.load(), 1);
		CHECK_EQ(refused.load(), 1);
	}
}
