// SPDX-License-Identifier: GPL-2.0-only
// MOV to and from control and debug registers, CLTS, LMSW. SDM vol. 3, 28.2.1, tables 28-3 and 28-4.
#include "run/control_registers.h"

#include "run/debugger.h"
#include "run/dispatch.h"
#include "run/handlers.h"
#include "x86/control_registers.h"

namespace kvmpp::run
{
namespace
{

using x86::Gpr;

struct CrAccess {
	u64 raw;

	enum class Kind : u8 { mov_to, mov_from, clts, lmsw };
	unsigned number() const { return raw & 0xf; }
	Kind kind() const { return static_cast<Kind>(raw >> 4 & 3); }
	Gpr gpr() const { return static_cast<Gpr>(raw >> 8 & 0xf); }
	u16 lmsw_source() const { return static_cast<u16>(raw >> 16); }
};

struct DrAccess {
	u64 raw;

	unsigned number() const { return raw & 7; }
	bool from() const { return raw & (1 << 4); }
	Gpr gpr() const { return static_cast<Gpr>(raw >> 8 & 0xf); }
};

u64 read_gpr(Exit &exit, Gpr name)
{
	const u64 value = name == Gpr::rsp ? exit.vcpu.state.rsp(exit.vmcs) : exit.gpr(name);
	return exit.vcpu.mode(exit.vmcs) == x86::Mode::long64 ? value : static_cast<u32>(value);
}

void write_gpr(Exit &exit, Gpr name, u64 value)
{
	if (exit.vcpu.mode(exit.vmcs) != x86::Mode::long64)
		value = static_cast<u32>(value);
	if (name == Gpr::rsp)
		exit.vcpu.state.set_rsp(value);
	else
		exit.vcpu.gpr(name) = value;
}

} // namespace

bool write_cr0(Vcpu &vcpu, vmx::Current vmcs, u64 value)
{
	value |= X86_CR0_ET;
	if (!x86::cr0_valid(value))
		return false;
	value &= x86::cr0_defined;
	auto &state = vcpu.state;
	const u64 old = state.cr0(vmcs), cr4 = state.cr4(vmcs), efer = state.efer();
	const bool starts_paging = value & X86_CR0_PG && !(old & X86_CR0_PG);

	// Long mode wants PAE tables and no 64-bit code segment at the moment it begins.
	if (starts_paging && efer & x86::efer::lme &&
		(!(cr4 & X86_CR4_PAE) || state.rights(vmcs, x86::SegmentName::cs).long_mode()))
		return false;
	if (!(value & X86_CR0_PG) && old & X86_CR0_PG &&
		(vcpu.mode(vmcs) == x86::Mode::long64 || cr4 & X86_CR4_PCIDE))
		return false;
	if (x86::uses_pdptes(value, cr4, x86::efer_after_cr0(efer, value)) &&
		(old ^ value) & x86::cr0_pdpte_bits && !vcpu.load_pdptes(state.cr3(vmcs)))
		return false;
	vcpu.set_cr0(vmcs, value);
	return true;
}

bool write_cr3(Vcpu &vcpu, vmx::Current vmcs, u64 value)
{
	constexpr u64 no_flush = bit(63);
	auto &state = vcpu.state;
	if (state.cr4(vmcs) & X86_CR4_PCIDE)
		value &= ~no_flush;
	if (!x86::cr3_valid(value, state.efer(), vcpu.cpuid.physical_bits()))
		return false;
	if (x86::uses_pdptes(state.cr0(vmcs), state.cr4(vmcs), state.efer()) && !vcpu.load_pdptes(value))
		return false;
	state.set_cr3(value);
	vcpu.mailbox.request(machine::Request::flush_linear);
	return true;
}

bool write_cr4(Vcpu &vcpu, vmx::Current vmcs, u64 value)
{
	auto &state = vcpu.state;
	const u64 old = state.cr4(vmcs), cr0 = state.cr0(vmcs), cr3 = state.cr3(vmcs);
	if (value & ~vcpu.cpuid.cr4_allowed())
		return false;
	const bool long_mode = state.efer() & x86::efer::lma;
	if (long_mode && !(value & X86_CR4_PAE))
		return false;
	if (value & X86_CR4_PCIDE && !(old & X86_CR4_PCIDE) && (!long_mode || cr3 & 0xfff))
		return false;
	if (x86::uses_pdptes(cr0, value, state.efer()) && (old ^ value) & x86::cr4_pdpte_bits &&
		!vcpu.load_pdptes(cr3))
		return false;
	vcpu.set_cr4(vmcs, value);
	return true;
}

bool write_cr8(Vcpu &vcpu, u64 value)
{
	if (value & ~u64{0xf})
		return false;
	vcpu.set_cr8(value);
	return true;
}

std::expected<u64, x86::Exception> read_dr(Vcpu &vcpu, vmx::Current vmcs, unsigned number)
{
	const bool extensions = vcpu.state.cr4(vmcs) & X86_CR4_DE;
	switch (number) {
	case 0 ... 3: return vcpu.debug.address[number];
	case 4:
		if (extensions)
			return std::unexpected{x86::Exception::ud()};
		[[fallthrough]];
	case 6: return vcpu.debug.dr6;
	case 5:
		if (extensions)
			return std::unexpected{x86::Exception::ud()};
		[[fallthrough]];
	default: return vcpu.state.dr7();
	}
}

std::expected<void, x86::Exception> write_dr(Vcpu &vcpu, vmx::Current vmcs, unsigned number, u64 value)
{
	const bool extensions = vcpu.state.cr4(vmcs) & X86_CR4_DE;
	if ((number == 4 || number == 5) && extensions)
		return std::unexpected{x86::Exception::ud()};
	if (number < 4) {
		vcpu.debug.address[number] = value;
		return {};
	}
	// The upper halves of DR6 and DR7 must be zero (SDM vol. 3, 18.2.6).
	if (value & bits(63, 32))
		return std::unexpected{x86::Exception::gp()};
	constexpr u64 dr6_writable = 0xe00f, dr7_writable = 0xffff2bff;
	if (number == 4 || number == 6)
		vcpu.debug.dr6 = (value & dr6_writable) | machine::DebugRegisters::dr6_fixed;
	else
		vcpu.state.set_dr7((value & dr7_writable) | machine::DebugRegisters::dr7_fixed);
	return {};
}

Result<After> handle_cr_access(Exit &exit)
{
	const CrAccess access{exit.qualification()};
	Vcpu &vcpu = exit.vcpu;
	const auto cr0 = [&] { return vcpu.state.cr0(exit.vmcs); };

	bool valid = true;
	switch (access.kind()) {
	case CrAccess::Kind::mov_to: {
		const u64 value = read_gpr(exit, access.gpr());
		switch (access.number()) {
		case 0: valid = write_cr0(vcpu, exit.vmcs, value); break;
		case 3: valid = write_cr3(vcpu, exit.vmcs, value); break;
		case 4: valid = write_cr4(vcpu, exit.vmcs, value); break;
		case 8: {
			const u64 old = vcpu.cr8();
			valid = write_cr8(vcpu, value);
			// Without an APIC of ours the VMM's may have an interrupt for a lower priority.
			if (valid && !vcpu.lapic && value < old) {
				exit.complete();
				vcpu.run().exit_reason = KVM_EXIT_SET_TPR;
				return After::exit_to_user;
			}
			break;
		}
		default: return exit.raise(x86::Exception::ud());
		}
		break;
	}
	case CrAccess::Kind::mov_from:
		write_gpr(exit, access.gpr(),
			access.number() == 8 ? vcpu.cr8() : vcpu.state.cr3(exit.vmcs));
		break;
	case CrAccess::Kind::clts: valid = write_cr0(vcpu, exit.vmcs, cr0() & ~u64{X86_CR0_TS}); break;
	case CrAccess::Kind::lmsw: {
		// It loads the low four bits, and cannot clear PE.
		constexpr u64 loaded = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
		const u64 source = access.lmsw_source() | (cr0() & X86_CR0_PE);
		valid = write_cr0(vcpu, exit.vmcs, (cr0() & ~loaded) | (source & loaded));
		break;
	}
	}
	return valid ? exit.complete() : exit.raise(x86::Exception::gp());
}

Result<After> handle_dr_access(Exit &exit)
{
	const DrAccess access{exit.qualification()};
	Vcpu &vcpu = exit.vcpu;
	// As the emulator has it: what does not exist is undefined for everybody.
	const bool alias = access.number() == 4 || access.number() == 5;
	if (alias && vcpu.state.cr4(exit.vmcs) & X86_CR4_DE)
		return exit.raise(x86::Exception::ud());
	if (exit.cpl() != 0)
		return exit.raise(x86::Exception::gp());

	// General detect: the access itself is a debug exception.
	constexpr u64 general_detect = 1 << 13;
	if (vcpu.debugger.has_breakpoints() && vcpu.debugger.dr7 & general_detect)
		return debug_exit(vcpu, exit.vmcs, x86::Vector::debug, general_detect);
	if (vcpu.state.dr7() & general_detect) {
		vcpu.debug.dr6 |= general_detect;
		return exit.raise(x86::Exception::plain(x86::Vector::debug));
	}

	if (access.from()) {
		const auto value = read_dr(vcpu, exit.vmcs, access.number());
		if (!value)
			return exit.raise(value.error());
		write_gpr(exit, access.gpr(), *value);
	} else {
		const auto done = write_dr(vcpu, exit.vmcs, access.number(), read_gpr(exit, access.gpr()));
		if (!done)
			return exit.raise(done.error());
	}
	return exit.complete();
}

} // namespace kvmpp::run
