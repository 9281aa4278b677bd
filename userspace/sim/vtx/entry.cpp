// SPDX-License-Identifier: GPL-2.0-only
// The world switch on the simulated processor: what vmx/enter.S does, VM entry, and VM exit.
// SDM vol. 3, chapters 27 and 28.
#include "host/seam.h"
#include "sim/host.h"
#include "sim/vtx/checks.h"
#include "sim/vtx/guest.h"
#include "sim/vtx/virtual_apic.h"
#include "vmx/controls.h"
#include "x86/msr.h"

namespace kvmpp::sim
{
namespace
{

namespace field = vmx::field;
namespace msr = x86::msr;
using vmx::EventType;
using vmx::ExitReason;
using vtx::Vmcs;

// The stack of the host at its entries, the same nearly always.
constexpr u64 stack_pointer = 0xffffc90000003f58;

GuestProgram &program()
{
	thread_local GuestProgram of_thread;
	return of_thread;
}

// Delivery by the IDT as far as the host sees it afterwards: what the event blocks.
std::optional<Delivered> deliver_event(Vmcs &vmcs)
{
	const vmx::EventInfo event = vmcs.get(field::entry_event);
	if (!event.valid())
		return {};
	vmcs.set(field::entry_event, {event.raw & ~vmx::EventInfo::valid_bit});
	u32 blocked = vmcs.get(field::guest_interruptibility) & ~(vmx::blocking::sti | vmx::blocking::mov_ss);
	if (event.type() == EventType::nmi)
		blocked |= vmx::blocking::nmi;
	vmcs.set(field::guest_interruptibility, blocked);
	// As by an interrupt gate.
	vmcs.set(field::guest_rflags,
		vmcs.get(field::guest_rflags) & ~u64{X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_RF});
	return Delivered{event, event.has_error_code() ? vmcs.get(field::entry_event_error_code) : 0};
}

// What the processor takes from the virtual-APIC page (SDM vol. 3, 27.3.2.5 and 30.2.2).
std::optional<Delivered> deliver_virtual_interrupt(Vmcs &vmcs, bool not_now)
{
	vtx::VirtualApic apic{vmcs};
	if (!apic.delivers())
		return {};
	apic.virtualize_ppr();
	constexpr u32 shadow = vmx::blocking::sti | vmx::blocking::mov_ss;
	const bool possible = !not_now && vmcs.get(field::guest_rflags) & X86_EFLAGS_IF &&
			      !(vmcs.get(field::guest_interruptibility) & shadow);
	const auto vector = possible ? apic.deliver() : std::nullopt;
	if (!vector)
		return {};
	vmcs.set(field::guest_rflags,
		vmcs.get(field::guest_rflags) & ~u64{X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_RF});
	return Delivered{vmx::EventInfo::of(EventType::external_interrupt, *vector), 0};
}

// Exits that come before the guest's first instruction (SDM vol. 3, 27.7).
std::optional<GuestExit> exit_at_once(const Vmcs &vmcs, const Cpu &cpu)
{
	const u32 controls = vmcs.get(field::primary_controls);
	const u32 blocked = vmcs.get(field::guest_interruptibility);
	constexpr u32 shadow = vmx::blocking::sti | vmx::blocking::mov_ss;
	if (controls & vmx::primary::nmi_window_exiting && !(blocked & (shadow | vmx::blocking::nmi)))
		return GuestExit::of(ExitReason::nmi_window);
	if (controls & vmx::primary::interrupt_window_exiting && !(blocked & shadow) &&
		vmcs.get(field::guest_rflags) & X86_EFLAGS_IF)
		return GuestExit::of(ExitReason::interrupt_window);
	if (cpu.interrupted())
		return GuestExit::of(ExitReason::external_interrupt);
	if (vmcs.get(field::pin_controls) & vmx::pin::preemption_timer && !vmcs.get(field::preemption_timer))
		return GuestExit::of(ExitReason::preemption_timer);
	return {};
}

void write_exit(Vmcs &vmcs, const GuestExit &exit)
{
	vmcs.set(field::exit_reason, exit.reason);
	vmcs.set(field::exit_qualification, exit.qualification);
	vmcs.set(field::guest_physical_address, Gpa{exit.guest_physical});
	vmcs.set(field::guest_linear_address, Gva{exit.guest_linear});
	vmcs.set(field::exit_event, exit.event);
	vmcs.set(field::exit_event_error_code, exit.event_error_code);
	vmcs.set(field::vectoring_event, exit.vectoring);
	vmcs.set(field::vectoring_event_error_code, exit.vectoring_error_code);
	vmcs.set(field::exit_instruction_length, exit.instruction_length);
	vmcs.set(field::exit_instruction_info, exit.instruction_info);
}

// An instruction has begun since STI or MOV SS.
void end_shadow(Vmcs &vmcs)
{
	vmcs.set(field::guest_interruptibility,
		vmcs.get(field::guest_interruptibility) & ~(vmx::blocking::sti | vmx::blocking::mov_ss));
}

// False: VMfail.
bool check_launch(Cpu &cpu, bool launched)
{
	auto &processor = cpu.vtx;
	++vtx::counts().entries;
	if (vtx::fails_on_purpose())
		return false;
	if (!processor.on || !processor.current) {
		vtx::note_refusal("VM entry without a current VMCS");
		return false;
	}
	Vmcs &vmcs = *processor.current;
	if (!launched && vmcs.launched)
		return vtx::fail(processor, vtx::Error::launch_not_clear);
	if (launched && !vmcs.launched)
		return vtx::fail(processor, vtx::Error::resume_not_launched);
	if (const char *wrong = vtx::check_controls(vmcs, cpu)) {
		vtx::fail(processor, vtx::Error::entry_controls);
		vtx::note_refusal(wrong);
		return false;
	}
	if (const char *wrong = vtx::check_injected_event(vmcs)) {
		vmcs.set(field::instruction_error, static_cast<u32>(vtx::Error::entry_controls));
		vtx::note_guest_refusal(wrong);
		return false;
	}
	if (const char *wrong = vtx::check_host_state(vmcs, cpu)) {
		vtx::fail(processor, vtx::Error::entry_host_state);
		vtx::note_refusal(wrong);
		return false;
	}
	return true;
}

void run_guest(Cpu &cpu, Vmcs &vmcs, x86::Gprs &gprs)
{
	u64 qualification;
	if (const char *wrong = vtx::check_guest_state(vmcs, cpu, qualification)) {
		vtx::note_guest_refusal(wrong);
		vmcs.set(field::exit_reason, {static_cast<u32>(ExitReason::invalid_state) |
						     VMX_EXIT_REASONS_FAILED_VMENTRY});
		vmcs.set(field::exit_qualification, qualification);
		return;
	}
	// SDM vol. 3, 30.4.5: translations know the page as what it was.
	const bool takes_accesses = vtx::VirtualApic{vmcs}.takes_accesses();
	if (vmcs.launched && takes_accesses != vmcs.took_apic_accesses && cpu.vtx.invepts == vmcs.invepts)
		die("APIC accesses are virtualized, or not any more, without an INVEPT");
	vmcs.took_apic_accesses = takes_accesses;
	vmcs.invepts = cpu.vtx.invepts;
	vmcs.launched = true;
	auto delivered = deliver_event(vmcs);
	auto exit = exit_at_once(vmcs, cpu);
	if (const auto taken = deliver_virtual_interrupt(vmcs, exit.has_value() || delivered))
		delivered = taken;
	Guest guest{vmcs, gprs, cpu, delivered};
	if (!exit) {
		if (!program())
			die("a guest is entered that has no program");
		exit = program()(guest);
		end_shadow(vmcs);
	}
	write_exit(vmcs, *exit);
	// What an exit clears (SDM vol. 3, 28.5.1).
	cpu.msrs[msr::debugctl] = 0;
}

} // namespace

void set_guest_program(GuestProgram wanted)
{
	program() = std::move(wanted);
}

u64 read_cr0()
{
	return this_cpu().cr0;
}

u64 read_cr2()
{
	return this_cpu().cr2;
}

void write_cr2(u64 value)
{
	this_cpu().cr2 = value;
}

u64 read_cr3()
{
	return this_cpu().cr3;
}

u64 read_cr4()
{
	return this_cpu().cr4;
}

} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_world_switch(vmx::World *world)
{
	sim::Cpu &cpu = sim::this_cpu();
	if (!cpu.in_guest || !sim::this_thread().interrupts_off)
		sim::die("a world switch outside kvmpp_guest_begin and kvmpp_guest_end");
	if (world->host_rsp != sim::stack_pointer) {
		if (!sim::vtx::vmwrite(KVMPP_FIELD_HOST_RSP, sim::stack_pointer))
			return 1;
		world->host_rsp = sim::stack_pointer;
	}
	const bool switches_spec_ctrl = kvmpp_mitigations() & KVMPP_SPEC_CTRL;
	u64 &spec_ctrl = cpu.msrs[sim::msr::spec_ctrl];
	if (switches_spec_ctrl)
		spec_ctrl = world->spec_ctrl;
	const bool entered = sim::check_launch(cpu, world->launched);
	if (entered) {
		auto &vmcs = *cpu.vtx.current;
		if (vmcs.get(vmx::field::host_rsp) != sim::stack_pointer)
			sim::die("the VMCS has another host RSP than its shadow says");
		sim::run_guest(cpu, vmcs, world->gprs);
	}
	if (switches_spec_ctrl) {
		if (world->save_spec_ctrl)
			world->spec_ctrl = static_cast<u32>(spec_ctrl);
		spec_ctrl = kvmpp_spec_ctrl_host();
	}
	return !entered;
}

// Its address is the host's RIP; the simulated processor returns by itself.
void kvmpp_world_exit()
{
	sim::die("the VM exit's address was called");
}
