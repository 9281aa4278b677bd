// SPDX-License-Identifier: GPL-2.0-only
// Small guests in machine code.
#include "guest.h"

#include <csignal>
#include <pthread.h>

namespace kvmpp::selftests
{

namespace
{

// Bits of the control registers and of EFER (SDM vol. 3, 2.5 and 2.2.1).
constexpr u64 cr0_pe = 1, cr0_et = 1 << 4, cr0_ne = 1 << 5, cr0_wp = 1 << 16, cr0_pg = 1u << 31;
constexpr u64 cr4_pae = 1 << 5, cr4_osfxsr = 1 << 9, cr4_osxmmexcpt = 1 << 10;
constexpr u64 efer_lme = 1 << 8, efer_lma = 1 << 10;

constexpr u8 type_data = 3, type_code = 11, type_busy_tss = 11;

Vm &with(const System &system, Vm &vm, Guest::With what)
{
	if (what == Guest::with_irqchip)
		REQUIRE_EQ(vm.call(KVM_CREATE_IRQCHIP), 0);
	if (what == Guest::with_dirty_rings) {
		NEED(system, KVM_CAP_DIRTY_LOG_RING);
		kvm_enable_cap rings{};
		rings.cap = KVM_CAP_DIRTY_LOG_RING;
		rings.args[0] = Guest::dirty_ring_bytes;
		REQUIRE_EQ(vm.call(KVM_ENABLE_CAP, &rings), 0);
	}
	return vm;
}

// A descriptor of a flat segment (SDM vol. 3, 3.4.5).
constexpr u64 descriptor(u64 type, u64 dpl, bool code64)
{
	u64 high_limit_granular = 0xfull << 48 | 1ull << 55;
	u64 size = code64 ? 1ull << 53 : 1ull << 54;
	return 0xffff | type << 40 | 1ull << 44 | dpl << 45 | 1ull << 47 | high_limit_granular |
	       size;
}

} // namespace

kvm_segment flat_segment(u16 selector, u8 type)
{
	kvm_segment segment{};
	segment.limit = 0xffffffff;
	segment.selector = selector;
	segment.type = type;
	segment.present = 1;
	segment.dpl = selector & 3;
	segment.db = 1;
	segment.s = 1;
	segment.g = 1;
	return segment;
}

Guest::Guest(Mode mode, const Code &code, With what) : vcpu(system, with(system, vm, what))
{
	REQUIRE_EQ(vm.set_slot(0, 0, memory_size, memory.bytes()), 0);
	REQUIRE_EQ(vcpu.set(supported_cpuid()), 0);

	u64 *gdt = &value<u64>(at::gdt);
	gdt[selector::code64 / 8] = descriptor(type_code, 0, true);
	gdt[selector::data / 8] = descriptor(type_data, 0, false);
	gdt[selector::code32 / 8] = descriptor(type_code, 0, false);
	gdt[selector::user_data / 8] = descriptor(type_data, 3, false);
	gdt[selector::user_code64 / 8] = descriptor(type_code, 3, true);
	gdt[selector::tss / 8] = 0x67 | at::tss << 16 | u64{type_busy_tss} << 40 | 1ull << 47;
	gdt[selector::code16 / 8] = 0xffff | u64{type_code} << 40 | 1ull << 44 | 1ull << 47;
	// No ports for less privileged code: the map of them begins behind the segment's end.
	value<u16>(at::tss + 0x66) = 0x68;
	// The stack for interrupts of less privileged code, in the task state segment.
	value<u64>(at::tss + 4) = at::stack_top;

	u64 *tables = &value<u64>(at::page_tables);
	tables[0] = (at::page_tables + page) | 7;
	for (u64 i = 0; i < 4; ++i) {
		tables[512 + i] = (at::page_tables + (2 + i) * page) | 7;
		for (u64 j = 0; j < 512; ++j)
			tables[(2 + i) * 512 + j] = (i << 30 | j << 21) | 0x87;
	}

	load(at::code, code);
	set_up(vcpu, mode, at::code);
}

void Guest::load(u64 address, const Code &code) const
{
	memcpy(memory.bytes() + address, code.begin, code.size());
}

void Guest::set_handler(u8 vector, const Code &code)
{
	load(next_handler_, code);
	u64 present_interrupt_gate = 0x8e00;
	u64 *gate = &value<u64>(at::idt + vector * 16u);
	gate[0] = (next_handler_ & 0xffff) | u64{selector::code64} << 16 |
		  present_interrupt_gate << 32 | (next_handler_ >> 16) << 48;
	gate[1] = 0;
	next_handler_ += (code.size() + 15) & ~15ull;
	REQUIRE(next_handler_ <= at::idt);
}

void Guest::set_up(const Vcpu &cpu, Mode mode, u64 rip, u64 rsp) const
{
	kvm_sregs sregs = cpu.sregs();
	if (mode == Mode::real) {
		for (auto segment :
			{&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs}) {
			segment->selector = 0;
			segment->base = 0;
		}
		sregs.idt = {.base = 0, .limit = 0x3ff, .padding = {}};
	} else {
		sregs.gdt = {.base = at::gdt, .limit = 0x7f, .padding = {}};
		sregs.idt = {.base = at::idt, .limit = 0xfff, .padding = {}};
		sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
			flat_segment(selector::data, type_data);
		sregs.cs = flat_segment(selector::code32, type_code);
		sregs.cr0 = cr0_pe | cr0_et | cr0_ne;
	}
	if (mode == Mode::long_mode) {
		sregs.cs = flat_segment(selector::code64, type_code);
		sregs.cs.db = 0;
		sregs.cs.l = 1;
		sregs.tr = {};
		sregs.tr.base = at::tss;
		sregs.tr.limit = 0x67;
		sregs.tr.selector = selector::tss;
		sregs.tr.type = type_busy_tss;
		sregs.tr.present = 1;
		sregs.cr0 |= cr0_pg | cr0_wp;
		sregs.cr3 = at::page_tables;
		sregs.cr4 = cr4_pae | cr4_osfxsr | cr4_osxmmexcpt;
		sregs.efer = efer_lme | efer_lma;
	}
	cpu.set(sregs);

	kvm_regs regs{};
	regs.rip = rip;
	regs.rsp = rsp;
	regs.rflags = 2;
	cpu.set(regs);
}

u32 Guest::run() const
{
	int answer = vcpu.enter();
	if (answer < 0)
		note("KVM_RUN: %s", strerrorname_np(-answer));
	REQUIRE(answer == 0);
	return vcpu->exit_reason;
}

u32 Guest::run_to_out(u16 port) const
{
	CHECK_EXIT(*this, KVM_EXIT_IO);
	REQUIRE_EQ(vcpu->io.direction, KVM_EXIT_IO_OUT);
	REQUIRE_EQ(vcpu->io.port, port);
	u32 value = 0;
	memcpy(&value, vcpu.io_data(), vcpu->io.size);
	return value;
}

void Guest::run_to_halt() const
{
	CHECK_EXIT(*this, KVM_EXIT_HLT);
}

const char *name_of_exit(u32 reason)
{
	switch (reason) {
	case KVM_EXIT_UNKNOWN: return "UNKNOWN";
	case KVM_EXIT_EXCEPTION: return "EXCEPTION";
	case KVM_EXIT_IO: return "IO";
	case KVM_EXIT_DEBUG: return "DEBUG";
	case KVM_EXIT_HLT: return "HLT";
	case KVM_EXIT_MMIO: return "MMIO";
	case KVM_EXIT_IRQ_WINDOW_OPEN: return "IRQ_WINDOW_OPEN";
	case KVM_EXIT_SHUTDOWN: return "SHUTDOWN";
	case KVM_EXIT_FAIL_ENTRY: return "FAIL_ENTRY";
	case KVM_EXIT_INTR: return "INTR";
	case KVM_EXIT_INTERNAL_ERROR: return "INTERNAL_ERROR";
	case KVM_EXIT_SYSTEM_EVENT: return "SYSTEM_EVENT";
	default: return "of another kind";
	}
}

Thread::Thread(void (*body)(void *), void *argument) : start_{body, argument}
{
	auto enter = [](void *start) -> void * {
		auto *what = static_cast<Start *>(start);
		what->body(what->argument);
		return nullptr;
	};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, nullptr, enter, &start_) == 0);
	handle_ = thread;
}

Thread::~Thread()
{
	join();
}

void Thread::join()
{
	if (!std::exchange(joined_, true))
		pthread_join(handle_, nullptr);
}

void Thread::interrupt() const
{
	pthread_kill(handle_, SIGUSR1);
}

void ignore_interruptions()
{
	struct sigaction action {};
	action.sa_handler = [](int) {};
	sigaction(SIGUSR1, &action, nullptr);
}

} // namespace kvmpp::selftests
