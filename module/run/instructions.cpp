// SPDX-License-Identifier: GPL-2.0-only
// Instructions that always exit and are quickly done.
#include <algorithm>
#include <linux/kvm_para.h>
#include "host/trace.h"
#include "machine/vm.h"
#include "run/emulated_guest.h"
#include "run/emulation.h"
#include "run/handlers.h"
#include "run/hypercall.h"
#include "x86/emulator/instruction.h"

namespace kvmpp::run
{
namespace
{

using x86::Exception;
using x86::Gpr;

// The processor knows it in its own SMM only. Prefixes say nothing, but for LOCK, which it refuses.
bool is_rsm(std::span<const u8> code, bool long_mode)
{
	const auto is_prefix = [long_mode](u8 byte) {
		constexpr std::array<u8, 10> prefixes{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3};
		return std::ranges::count(prefixes, byte) || (long_mode && (byte & 0xf0) == 0x40);
	};
	while (!code.empty() && is_prefix(code.front()))
		code = code.subspan(1);
	return code.size() >= 2 && code[0] == 0x0f && code[1] == 0xaa;
}

// Apart: the array on its stack would cost every CPUID a check of that.
[[gnu::cold, gnu::noinline]] void trace_cpuid(const Vcpu &vcpu, u32 leaf, u32 subleaf)
{
	const x86::Gprs &gprs = vcpu.residency.world().gprs;
	const u32 registers[] = {static_cast<u32>(gprs[Gpr::rax]), static_cast<u32>(gprs[Gpr::rbx]),
		static_cast<u32>(gprs[Gpr::rcx]), static_cast<u32>(gprs[Gpr::rdx])};
	kvmpp_note_cpuid(vcpu.id, leaf, subleaf, registers);
}

} // namespace


Result<After> handle_cpuid(Exit &exit)
{
	x86::Gprs &gprs = exit.vcpu.residency.world().gprs;
	const u32 leaf = exit.eax(), subleaf = exit.ecx();
	const x86::CpuidRegisters result = exit.vcpu.cpuid.query(leaf, subleaf);
	gprs[Gpr::rax] = result.eax;
	gprs[Gpr::rbx] = result.ebx;
	gprs[Gpr::rcx] = result.ecx;
	gprs[Gpr::rdx] = result.edx;
	if (host::tracing()) [[unlikely]]
		trace_cpuid(exit.vcpu, leaf, subleaf);
	return exit.complete();
}

Result<After> halt(Vcpu &vcpu)
{
	vcpu.statistics.add(machine::VcpuCounter::halts);
	if (vcpu.lapic) {
		vcpu.mp_state = machine::MpState::halted;
		return After::reenter;
	}
	vcpu.run().exit_reason = KVM_EXIT_HLT;
	return After::exit_to_user;
}

Result<After> handle_hlt(Exit &exit)
{
	exit.complete();
	return halt(exit.vcpu);
}

Result<After> handle_vmcall(Exit &exit)
{
	hypercall(exit.vcpu, exit.vmcs);
	return exit.complete();
}

Result<After> handle_pause(Exit &exit)
{
	// A guest that spins waits for somebody who may need this CPU.
	exit.vcpu.vm.yield_from(exit.vcpu);
	return exit.complete();
}

// Caches are coherent.
Result<After> handle_nop(Exit &exit)
{
	return exit.complete();
}

// Not offered, but they behave as NOPs unless the VMM has it otherwise.
Result<After> handle_monitor_mwait(Exit &exit)
{
	const Vcpu &vcpu = exit.vcpu;
	if (!vcpu.vm.options().has_quirk(KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) &&
		!vcpu.cpuid.has(x86::feature::monitor))
		return exit.raise(Exception::ud());
	return exit.complete();
}

Result<After> handle_invalid_opcode(Exit &exit)
{
	constexpr std::array<u8, 3> vmmcall{0x0f, 0x01, 0xd9}, vmcall{0x0f, 0x01, 0xc1};
	using x86::emulator::Access;
	Vcpu &vcpu = exit.vcpu;
	EmulatedGuest guest{vcpu, exit.vmcs};
	const u64 base = guest.mode() == x86::Mode::long64
				 ? 0
				 : vcpu.state.segment_base(exit.vmcs, x86::SegmentName::cs);
	const Gva place{base + exit.rip()};
	std::array<u8, x86::emulator::max_instruction_bytes> code{};
	const auto fetched = guest.fetch(place, code.data(), code.size());
	// Another processor took the page away meanwhile: that fault is the guest's.
	if (!fetched && fetched.error() == x86::emulator::Stop::exception)
		return After::reenter;
	if (!fetched)
		return exit.raise(Exception::ud());
	const std::span<const u8> bytes{code.data(), *fetched};
	if (vcpu.smm.active && is_rsm(bytes, guest.mode() == x86::Mode::long64))
		return emulate(vcpu, exit.vmcs);
	if (!vcpu.vm.options().has_quirk(KVM_X86_QUIRK_FIX_HYPERCALL_INSN) || bytes.size() < vmmcall.size() ||
		!std::ranges::equal(bytes.first(vmmcall.size()), vmmcall))
		return exit.raise(Exception::ud());
	// If the guest may not write there, that is the exception that it gets, as with KVM.
	(void)guest.write(place, vmcall.data(), vmcall.size(), Access::write).has_value();
	if (const auto error = guest.host_error())
		return std::unexpected{*error};
	// A write to a ROM is the VMM's to see.
	return exit_for_writes(vcpu);
}

Result<After> handle_undefined(Exit &exit)
{
	return exit.raise(Exception::ud());
}

// No counters are offered.
Result<After> handle_rdpmc(Exit &exit)
{
	return exit.raise(Exception::gp());
}

Result<After> handle_xsetbv(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const u64 value = exit.edx_eax();
	if (exit.cpl() != 0 || exit.ecx() != 0 || !x86::xcr0_valid(value, vcpu.cpuid.xcr0_allowed()))
		return exit.raise(Exception::gp());
	vcpu.set_xcr0(value);
	return exit.complete();
}

} // namespace kvmpp::run
