// SPDX-License-Identifier: GPL-2.0-only
// The families of a vCPU's ioctls. All run with the vCPU's lock held.
#pragma once

#include <linux/kvm.h>
#include "machine/vcpu.h"

namespace kvmpp::api
{

using machine::Vcpu;

// vcpu_run.cpp: KVM_RUN, and what of KVM_CAP_SYNC_REGS it exchanges.
inline constexpr u32 exchanged_registers =
	KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
Result<> run_guest(Vcpu &vcpu, unsigned long argument);

// vcpu_registers.cpp: general, special, debug registers.
Result<> get_regs(Vcpu &vcpu, kvm_regs &regs);
void set_regs(Vcpu &vcpu, const kvm_regs &regs);
Result<> get_sregs(Vcpu &vcpu, kvm_sregs &sregs);
Result<> set_sregs(Vcpu &vcpu, const kvm_sregs &sregs);
Result<> get_sregs2(Vcpu &vcpu, kvm_sregs2 &sregs);
Result<> set_sregs2(Vcpu &vcpu, const kvm_sregs2 &sregs);
void get_debugregs(Vcpu &vcpu, kvm_debugregs &regs);
Result<> set_debugregs(Vcpu &vcpu, const kvm_debugregs &regs);

// vcpu_fpu.cpp
Result<> get_fpu(Vcpu &vcpu, kvm_fpu &fpu);
Result<> set_fpu(Vcpu &vcpu, const kvm_fpu &fpu);
Result<> get_xsave(Vcpu &vcpu, kvm_xsave &xsave);
Result<> set_xsave(Vcpu &vcpu, const kvm_xsave &xsave);
Result<> get_xcrs(Vcpu &vcpu, kvm_xcrs &xcrs);
Result<> set_xcrs(Vcpu &vcpu, const kvm_xcrs &xcrs);

// vcpu_events.cpp: what is pending, and the state a vCPU waits in.
Result<> get_events(Vcpu &vcpu, kvm_vcpu_events &events);
Result<> set_events(Vcpu &vcpu, const kvm_vcpu_events &events);
void get_mp_state(Vcpu &vcpu, kvm_mp_state &state);
Result<> set_mp_state(Vcpu &vcpu, const kvm_mp_state &state);
Result<> queue_interrupt(Vcpu &vcpu, const kvm_interrupt &interrupt);

// vcpu_debug.cpp
Result<> set_guest_debug(Vcpu &vcpu, const kvm_guest_debug &request);

// vcpu_translate.cpp
Result<> translate(Vcpu &vcpu, kvm_translation &translation);

// vcpu_machine_check.cpp
Result<> setup_mce(Vcpu &vcpu, u64 capabilities);
Result<> set_mce(Vcpu &vcpu, const kvm_x86_mce &error);

// vcpu_cpuid.cpp
Result<> set_cpuid2(Vcpu &vcpu, unsigned long argument);
Result<> get_cpuid2(Vcpu &vcpu, unsigned long argument);

} // namespace kvmpp::api
