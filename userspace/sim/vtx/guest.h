// SPDX-License-Identifier: GPL-2.0-only
// What a guest does, as a test says: a function that is called whenever the guest is entered, acts on
// the guest's registers and memory, and says with which exit the guest is left.
#pragma once

#include <functional>
#include <optional>
#include <vector>
#include "sim/cpu/cpus.h"
#include "sim/vtx/vmcs.h"
#include "vmx/event.h"
#include "vmx/exit_reason.h"
#include "vmx/fields.h"
#include "vmx/world.h"

namespace kvmpp::sim
{

// A VM exit as the processor describes it (SDM vol. 3, 25.9).
struct GuestExit {
	vmx::ExitReasonField reason{};
	u64 qualification = 0;
	u64 guest_physical = 0, guest_linear = 0;
	u32 instruction_length = 0, instruction_info = 0;
	vmx::EventInfo event{}, vectoring{};
	u32 event_error_code = 0, vectoring_error_code = 0;

	static GuestExit of(vmx::ExitReason reason, u64 qualification = 0, u32 length = 0)
	{
		GuestExit exit;
		exit.reason.raw = static_cast<u16>(reason);
		exit.qualification = qualification;
		exit.instruction_length = length;
		return exit;
	}
};

// An event that an entry has delivered to the guest.
struct Delivered {
	vmx::EventInfo event;
	u32 error_code;
	bool operator==(const Delivered &) const = default;
};

class Guest {
public:
	Guest(vtx::Vmcs &vmcs, x86::Gprs &gprs_, Cpu &cpu_, std::optional<Delivered> delivered_)
		: gprs{gprs_}, cpu{cpu_}, delivered{delivered_}, vmcs_{vmcs}
	{
	}

	x86::Gprs &gprs;
	Cpu &cpu; // its other registers are the guest's, too
	const std::optional<Delivered> delivered; // by this entry

	template <class F>
	typename F::Value get(F field) const
	{
		return vmcs_.get(field);
	}
	template <class F>
	void set(F field, typename F::Value value)
	{
		vmcs_.set(field, value);
	}

	// By the MSR bitmap.
	bool msr_exits(u32 index, bool write) const;

	// Instructions that exit, at RIP.
	GuestExit cpuid(u32 leaf, u32 subleaf = 0);
	GuestExit hlt() { return GuestExit::of(vmx::ExitReason::hlt, 0, 1); }
	GuestExit in(u16 port, unsigned size);
	GuestExit out(u16 port, unsigned size, u32 value);
	GuestExit rdmsr(u32 index);
	GuestExit wrmsr(u32 index, u64 value);
	GuestExit vmcall(u64 number);

	// What the processor may do without an exit, in x2APIC mode: EOI, TPR, a self IPI, and the read
	// of a register. Ends the test where there is one after all for the MSR bitmap's sake.
	std::optional<GuestExit> write_x2apic(u32 index, u32 value);
	u32 read_x2apic(u32 index);
	// MOV to CR8 with a TPR shadow.
	std::optional<GuestExit> write_cr8(u8 value);

	// Runs without an exit of its own until an interrupt of the host comes.
	GuestExit spin();
	// The same until the preemption timer has counted down, which moves the clock.
	GuestExit spin_until_timer();

	// Accesses to guest-physical memory by the tables in the VMCS: nothing, or the exit that the access
	// causes: an EPT violation, an access to the APIC that the processor does not do, or, behind the
	// access, what it made of a write to the APIC.
	std::optional<GuestExit> read(u64 address, void *data, usize size);
	std::optional<GuestExit> write(u64 address, const void *data, usize size);

private:
	std::optional<GuestExit> task_priority_written();
	// 30.4.3.2: what follows from a write into the virtual-APIC page.
	std::optional<GuestExit> apic_written(u32 offset);
	template <class Copy>
	std::optional<GuestExit> access(u64 address, usize size, bool write, Copy &&copy);
	std::optional<GuestExit> log_page(u64 address);
	std::optional<GuestExit> translate(u64 address, bool write, u64 &host);

	vtx::Vmcs &vmcs_;
};

using GuestProgram = std::function<GuestExit(Guest &)>;

// What the calling thread's guests do from now on. Without a program an entry ends the test.
void set_guest_program(GuestProgram program);
// The steps one after the other; the last one from then on.
GuestProgram in_turn(std::vector<GuestProgram> steps);

} // namespace kvmpp::sim
