// SPDX-License-Identifier: GPL-2.0-only
#include "run/injection.h"

#include "host/trace.h"
#include "machine/vm.h"
#include "run/smm.h"
#include "run/virtual_apic.h"

namespace kvmpp::run
{
namespace
{

namespace field = vmx::field;
namespace primary = vmx::primary;
using machine::Delivery;
using machine::MpState;
using machine::Request;
using vmx::EventInfo;
using vmx::EventType;
using x86::Exception;
using x86::Vector;

// Exceptions that are traps, or neither: all others report the instruction that caused them, which
// will not see its own breakpoint again (RF; SDM vol. 3, 18.3.1.1).
constexpr bool is_fault(Vector vector)
{
	switch (vector) {
	case Vector::debug:
	case Vector::breakpoint:
	case Vector::overflow:
	case Vector::double_fault:
	case Vector::machine_check: return false;
	default: return true;
	}
}

Delivery begin_exception(Vcpu &vcpu, vmx::Current vmcs, const Exception &exception)
{
	if (exception.vector == Vector::page_fault)
		vcpu.cr2 = exception.address;
	// The handler may use the debug registers (SDM vol. 3, 18.2.4).
	constexpr u64 general_detect = 1 << 13;
	if (exception.vector == Vector::debug && vcpu.state.dr7() & general_detect)
		vcpu.state.set_dr7(vcpu.state.dr7() & ~general_detect);
	if (is_fault(exception.vector))
		vcpu.state.set_rflags(vcpu.state.rflags(vmcs) | X86_EFLAGS_RF);
	// Real mode has no error codes.
	const bool coded = exception.has_error_code && vcpu.state.cr0(vmcs) & X86_CR0_PE;
	const auto vector = static_cast<u8>(exception.vector);
	// #BP and #OF come from INT3 and INTO, with their own type.
	const bool software = exception.vector == Vector::breakpoint || exception.vector == Vector::overflow;
	return {.info = EventInfo::of(
			software ? EventType::software_exception : EventType::hardware_exception, vector, coded),
		.error_code = exception.error_code,
		.instruction_length = static_cast<u8>(software ? 1 : 0)};
}

// INIT and SIPI, which change what kind of processor this is.
void start_or_stop(Vcpu &vcpu, const x86::Lapic::Events &posted)
{
	// SMM keeps an INIT for later, and a processor that does not wait for a SIPI takes none.
	if (vcpu.smm.active) {
		vcpu.smm.latched_init |= posted.init;
		return;
	}
	if (posted.init) {
		vcpu.reset(false);
		vcpu.lapic->init();
		vcpu.mp_state = vcpu.is_bsp() ? MpState::runnable : MpState::init_received;
	}
	if (posted.startup && vcpu.mp_state == MpState::init_received) {
		vcpu.start_up(posted.startup_vector);
		vcpu.mp_state = MpState::runnable;
	}
}

void collect(Vcpu &vcpu)
{
	if (!vcpu.lapic || !vcpu.lapic->attention())
		return;
	const auto posted = vcpu.lapic->collect();
	if (posted.nmi)
		vcpu.events.nmi();
	if (posted.smi) {
		// Whoever runs the guest looks for it first of all, so once more.
		vcpu.events.smi = true;
		vcpu.mailbox.request(Request::event);
	}
	if (posted.init || posted.startup)
		start_or_stop(vcpu, posted);
}

// Whether the PIC, here or in the VMM, reaches the processor.
bool takes_pic(const Vcpu &vcpu)
{
	return !vcpu.lapic || vcpu.lapic->accepts_pic();
}

bool pic_pending(Vcpu &vcpu)
{
	auto *chips = vcpu.vm.interrupts.chips();
	return chips && chips->pic.output() && vcpu.lapic->accepts_pic();
}

// An interrupt that reaches the guest only by an injection.
bool interrupt_to_inject(Vcpu &vcpu)
{
	if (!vcpu.lapic)
		return vcpu.events.user_interrupt.has_value();
	// With a split irqchip the VMM's PIC has put its vector here.
	if (vcpu.events.user_interrupt && takes_pic(vcpu))
		return true;
	return pic_pending(vcpu) || (!processor_delivers(vcpu) && vcpu.lapic->injectable());
}

bool interrupt_pending(Vcpu &vcpu)
{
	return interrupt_to_inject(vcpu) || (vcpu.lapic && vcpu.lapic->injectable());
}

// Takes the vector from its controller.
u8 acknowledge_interrupt(Vcpu &vcpu)
{
	if (vcpu.events.user_interrupt && takes_pic(vcpu)) {
		const u8 vector = *vcpu.events.user_interrupt;
		vcpu.events.user_interrupt.reset();
		return vector;
	}
	if (pic_pending(vcpu))
		return vcpu.vm.interrupts.chips()->pic.acknowledge();
	const u8 vector = *vcpu.lapic->injectable();
	vcpu.lapic->acknowledge(vector);
	return vector;
}

bool nmis_allowed(Vcpu &vcpu, vmx::Current vmcs)
{
	return !(vcpu.state.interruptibility(vmcs) &
		 (vmx::blocking::nmi | vmx::blocking::mov_ss | vmx::blocking::sti));
}

} // namespace

bool pic_in_vmm(const Vcpu &vcpu)
{
	return vcpu.vm.interrupts.mode() != machine::IrqchipMode::kernel;
}

bool interrupts_allowed(Vcpu &vcpu, vmx::Current vmcs)
{
	return vcpu.state.rflags(vmcs) & X86_EFLAGS_IF && !vcpu.debugger.blocks_interrupts() &&
	       !(vcpu.state.interruptibility(vmcs) & (vmx::blocking::sti | vmx::blocking::mov_ss));
}

bool can_wake(Vcpu &vcpu, vmx::Current vmcs)
{
	const auto &events = vcpu.events;
	return vcpu.unhalted || events.next || events.begun || events.exception ||
	       (events.nmis && nmis_allowed(vcpu, vmcs)) || smi_allowed(vcpu) ||
	       (interrupt_pending(vcpu) && interrupts_allowed(vcpu, vmcs));
}

void choose_event(Vcpu &vcpu, vmx::Current vmcs)
{
	collect(vcpu);
	auto &events = vcpu.events;
	bool interrupt_waits = interrupt_to_inject(vcpu);
	if (events.next) {
		// An entry that did not happen had chosen already.
	} else if (events.exception) {
		events.next = begin_exception(vcpu, vmcs, *events.exception);
		events.exception.reset();
	} else if (events.begun) {
		events.next = *events.begun;
		events.begun.reset();
	} else if (events.nmis && nmis_allowed(vcpu, vmcs)) {
		--events.nmis;
		events.next = Delivery{.info = EventInfo::of(EventType::nmi, 2)};
	} else if (interrupt_waits && interrupts_allowed(vcpu, vmcs)) {
		const u8 vector = acknowledge_interrupt(vcpu);
		events.next = Delivery{.info = EventInfo::of(EventType::external_interrupt, vector)};
		interrupt_waits = interrupt_to_inject(vcpu);
	}

	// With nothing in its way a second interrupt waits only for the first one's handler. A window
	// for what the processor does not take would end every entry before its first instruction.
	const bool vmm_waits = pic_in_vmm(vcpu) && vcpu.run().request_interrupt_window && takes_pic(vcpu);
	const bool wants_window =
		!vcpu.debugger.blocks_interrupts() && (interrupt_waits || vmm_waits);
	vcpu.primary_controls.set_bits(vmcs, primary::interrupt_window_exiting, wants_window);
	vcpu.primary_controls.set_bits(vmcs, primary::nmi_window_exiting, events.nmis > 0);
	show_pending(vcpu, vmcs);
}

void write_event(Vcpu &vcpu, vmx::Current vmcs)
{
	auto &next = vcpu.events.next;
	if (!next)
		return;
	if (next->info.has_error_code())
		vmcs.write(field::entry_event_error_code, next->error_code);
	if (next->instruction_length)
		vmcs.write(field::entry_instruction_length, next->instruction_length);
	vmcs.write(field::entry_event, next->info);
	vcpu.state.wake(vmcs);
	vcpu.statistics.add(machine::VcpuCounter::events_injected);
	KVMPP_TRACE(injection, vcpu.id, next->info.vector(), static_cast<u8>(next->info.type()));
	next.reset();
	// It had to wait for this event to be delivered, and comes before the handler's first instruction.
	if (smi_allowed(vcpu)) [[unlikely]]
		kvmpp_cpu_kick(kvmpp_cpu_current());
}

void recover_event(Vcpu &vcpu, vmx::Current vmcs, vmx::ExitReason reason)
{
	// Delivering an event accesses memory and may fault; other exits cannot interrupt it.
	switch (reason) {
	case vmx::ExitReason::exception_or_nmi:
	case vmx::ExitReason::triple_fault:
	case vmx::ExitReason::task_switch:
	case vmx::ExitReason::apic_access:
	case vmx::ExitReason::ept_violation:
	case vmx::ExitReason::ept_misconfiguration:
	case vmx::ExitReason::pml_full: break;
	default: return;
	}
	const EventInfo info = vmcs.read(field::vectoring_event);
	if (!info.valid())
		return;

	Delivery again{.info = {info.raw & ~u32{1 << 12}}};
	// An entry with an error code in real-address mode fails (SDM vol. 3, 27.2.1.3), whatever the
	// exit says of the event.
	if (info.has_error_code() && !(vcpu.state.cr0(vmcs) & X86_CR0_PE))
		again.info.raw &= ~EventInfo::error_code_bit;
	else if (info.has_error_code())
		again.error_code = vmcs.read(field::vectoring_event_error_code);
	switch (info.type()) {
	case EventType::software_interrupt:
	case EventType::privileged_software_exception:
	case EventType::software_exception:
		again.instruction_length = static_cast<u8>(vmcs.read(field::exit_instruction_length));
		break;
	case EventType::nmi:
		// Its delivery blocks NMIs by itself; at the entry that repeats it they must not be
		// (SDM vol. 3, 27.3.1.5).
		vcpu.state.set_interruptibility(vcpu.state.interruptibility(vmcs) & ~vmx::blocking::nmi);
		break;
	default: break;
	}
	vcpu.events.begun = again;
}

} // namespace kvmpp::run
