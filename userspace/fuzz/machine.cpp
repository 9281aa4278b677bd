// SPDX-License-Identifier: GPL-2.0-only
#include "fuzz/machine.h"

#include <cstdio>
#include <cstdlib>
#include <utility>
#include "api/entry.h"
#include "sim/clock.h"
#include "sim/cpu/model.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/user/files.h"
#include "sim/user/watch.h"

namespace kvmpp::fuzz
{
namespace
{

using sim::GuestExit;
using vmx::ExitReason;
using x86::Gpr;

u64 ioctls = 0, exits = 0;

void print_counts()
{
	std::fprintf(stderr, "kvmpp: %llu ioctl calls, %llu exits\n", ioctls, exits);
}

// Refusals of the core belong to the log of a kernel, not of a fuzzer.
sim::LogCapture *silence = nullptr;

void require(bool condition, const char *what)
{
	if (!condition)
		sim::die("left behind: %s", what);
}

u64 address(Input &input)
{
	switch (input.choose(6)) {
	case 0: return 0xfee00000 + (input.take<u16>() & 0xfff); // the local APIC
	case 1: return 0xfec00000 + (input.take<u8>() & 0x1f);
	case 2: return 0xd0000000 + input.take<u16>();
	case 3: return input.number();
	default: return input.take<u16>(); // RAM, as a rule
	}
}

u32 msr(Input &input)
{
	switch (input.choose(4)) {
	case 0: return 0x800 + input.take<u8>();
	case 1: return 0xc0000080 + (input.take<u8>() & 0x8f);
	case 2: return input.one_of<u32>({0x10, 0x1b, 0x3b, 0x48, 0x49, 0x6e0, 0x277, 0x4b564d00, 0x4b564d01,
		0x12, 0x11, 0x1a0, 0x2ff, 0x200, 0x174, 0x1d9, 0x9e, 0x34});
	default: return input.take<u32>();
	}
}

} // namespace

Machine::Machine()
{
	[[maybe_unused]] static const int at_exit = std::atexit(print_counts);
	sim::reset_machine();
	sim::clock().reset();
	sim::vtx::reset_refusals();
	sim::this_thread().impatient = true;
	silence = new sim::LogCapture;
	sim::InKernel kernel;
	require(kvmpp_start(true) == 0, "a machine that is not fit");
}

Machine::~Machine()
{
	sim::fail_nothing();
	sim::preempt_every(0);
	sim::this_thread().signal = false;
	sim::set_guest_program({});
	{
		sim::InKernel kernel;
		kvmpp_stop();
	}
	const auto files = sim::file_counts();
	require(sim::memory_statistics().live == 0, "memory");
	require(files.files == 0 && files.reserved == 0, "descriptors");
	require(files.eventfd_references == 0 && files.eventfd_watches == 0, "eventfds");
	require(sim::watches() == 0, "watches of the address space");
	require(sim::visible_counts().directories == 0, "debugfs directories");
	require(sim::vtx::processors_on() == 0 && sim::vtx::active_vmcss() == 0, "VMX operation");
	if (sim::vtx::refusals())
		sim::die("the processor refuses: %s", sim::vtx::last_refusal());
	delete std::exchange(silence, nullptr);
}

GuestExit arbitrary_exit(Input &input, sim::Guest &guest)
{
	count_exit();
	if (input.empty())
		return GuestExit::of(ExitReason::triple_fault);
	// Registers change now and then.
	const u8 kind = input.take<u8>();
	if (kind & 0x80)
		guest.gprs.values[input.choose(16)] = input.number();
	if (kind & 0x40)
		guest.set(vmx::field::guest_rip, input.take<u16>());
	// Bits of RFLAGS that a program sets as it likes.
	if (kind & 0x20)
		guest.set(vmx::field::guest_rflags,
			(guest.get(vmx::field::guest_rflags) & ~u64{0x24ed5}) | (input.take<u16>() & 0x4ed5));
	switch (kind & 15) {
	case 0: return guest.cpuid(static_cast<u32>(input.number()), input.choose(4));
	case 1: return guest.hlt();
	case 2: return guest.in(input.take<u16>(), input.one_of<unsigned>({1, 2, 4}));
	case 3: return guest.out(input.one_of<u16>({0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x40, 0x42, 0x43, 0x61,
				      0x3f8, 0x500}),
			input.one_of<unsigned>({1, 2, 4}), static_cast<u32>(input.number()));
	case 4: return guest.rdmsr(msr(input));
	case 5: return guest.wrmsr(msr(input), input.number());
	case 6: return guest.vmcall(input.number());
	case 7:
	case 8: {
		// An access by the guest's own page tables, or a violation that there is no reason for.
		u64 value = input.take<u64>();
		const u64 where = address(input);
		const auto size = input.one_of<usize>({1, 4, 4, 8});
		const auto exit = kind & 1 ? guest.write(where, &value, size) : guest.read(where, &value, size);
		// Another exit between a write to an APIC and what follows it leaves that out (SDM vol. 3, 30.4.3.2).
		const bool lost = exit && kind & 0x10 && exit->reason.basic() == ExitReason::apic_write;
		return exit && !lost ? *exit : GuestExit::of(ExitReason::external_interrupt);
	}
	case 9: {
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, input.take<u16>());
		exit.guest_physical = address(input) & bits(47, 0);
		return exit;
	}
	case 10: {
		GuestExit exit = GuestExit::of(ExitReason::cr_access, input.take<u32>(), 3);
		return exit;
	}
	case 11: {
		if (input.choose(2))
			return GuestExit::of(ExitReason::external_interrupt);
		// RSM perhaps: what is there decides.
		GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi, 0, 2);
		exit.event = vmx::EventInfo::of(vmx::EventType::hardware_exception, 6);
		return exit;
	}
	default: break;
	}
	GuestExit exit;
	exit.reason.raw = input.take<u8>() % 80;
	exit.qualification = input.number();
	exit.instruction_length = input.choose(16);
	exit.guest_physical = address(input) & bits(47, 0);
	exit.event = {input.take<u32>()};
	exit.event_error_code = input.take<u16>();
	// As a processor reports them: NMIs and interrupts with their vectors, no reserved types.
	const auto type = static_cast<vmx::EventType>(input.one_of<u8>({0, 3, 4, 6}));
	if (input.choose(4) == 0) {
		const u8 vector = type == vmx::EventType::hardware_exception ? input.choose(32) : input.take<u8>();
		exit.vectoring = vmx::EventInfo::of(type, vector);
	}
	return exit;
}

void count_ioctl()
{
	++ioctls;
}

void count_exit()
{
	++exits;
}

} // namespace kvmpp::fuzz
