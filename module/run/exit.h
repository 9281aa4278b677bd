// SPDX-License-Identifier: GPL-2.0-only
// One exit of a guest: why, and its details, each read from the VMCS when a handler first asks.
#pragma once

#include "machine/vcpu.h"
#include "vmx/fields.h"

namespace kvmpp::run
{

using machine::Vcpu;

// What a handler wants next.
enum class After : u8 {
	reenter,      // run the guest again
	exit_to_user, // kvm_run says why
};

void trap_after_instruction(Vcpu &vcpu);

// Advances RIP over `length` bytes, with all that the end of an instruction brings. A third of what the host
// does for a short exit, so it is worth its place in each handler.
[[gnu::always_inline]] inline void pass_instruction(Vcpu &vcpu, vmx::Current vmcs, u32 length)
{
	const u64 rflags = vcpu.state.pass_instruction(vmcs, length);
	if (vcpu.debugger.steps() || rflags & X86_EFLAGS_TF) [[unlikely]]
		trap_after_instruction(vcpu);
}

// Between a guest's entry and the end of its exit's handler; one for all exits of a turn.
class Exit {
    public:
	Exit(Vcpu &vcpu_, vmx::Current vmcs_) : vcpu{vcpu_}, vmcs{vmcs_} {}
	// The guest has been left once more: nothing is known but why.
	void happened()
	{
		has_qualification_ = has_length_ = has_event_ = has_gpa_ = false;
		reason = vmcs.read(vmx::field::exit_reason);
	}

	Vcpu &vcpu;
	const vmx::Current vmcs;
	vmx::ExitReasonField reason{};

	u64 qualification() { return get(has_qualification_, qualification_, vmx::field::exit_qualification); }
	u32 instruction_length()
	{
		return get(has_length_, length_, vmx::field::exit_instruction_length);
	}
	vmx::EventInfo event() { return get(has_event_, event_, vmx::field::exit_event); }
	Gpa guest_physical() { return get(has_gpa_, gpa_, vmx::field::guest_physical_address); }

	// Guest registers.
	u64 rip() { return vcpu.state.rip(vmcs); }
	u32 eax() const { return static_cast<u32>(gpr(x86::Gpr::rax)); }
	u32 ecx() const { return static_cast<u32>(gpr(x86::Gpr::rcx)); }
	u64 edx_eax() const
	{
		return static_cast<u32>(gpr(x86::Gpr::rdx)) * (u64{1} << 32) | eax();
	}
	u64 gpr(x86::Gpr name) const { return vcpu.gpr(name); }
	// Writes of a 32-bit register clear the upper half.
	void set_gpr32(x86::Gpr name, u64 value) { vcpu.gpr(name) = static_cast<u32>(value); }
	unsigned cpl() { return vcpu.state.cpl(vmcs); }

	// An IRET that exits had unblocked NMIs already; the guest is still in the NMI's handler. Not so where
	// the delivery of an event has exited (SDM vol. 3, 28.2.3).
	void undo_nmi_unblocking()
	{
		if (!vcpu.events.begun)
			vcpu.state.set_interruptibility(vcpu.state.interruptibility(vmcs) | vmx::blocking::nmi);
	}

	// The instruction is complete: the guest goes on behind it.
	[[gnu::always_inline]] After complete()
	{
		pass_instruction(vcpu, vmcs, instruction_length());
		return After::reenter;
	}
	// It raises an exception instead.
	After raise(const x86::Exception &exception)
	{
		vcpu.events.raise(exception);
		return After::reenter;
	}

    private:
	template <class T, class F>
	T get(bool &known, T &value, F field)
	{
		if (!known) {
			value = vmcs.read(field);
			known = true;
		}
		return value;
	}

	bool has_qualification_ = false, has_length_ = false, has_event_ = false, has_gpa_ = false;
	u32 length_ = 0;
	vmx::EventInfo event_{};
	u64 qualification_ = 0;
	Gpa gpa_{};
};

} // namespace kvmpp::run
