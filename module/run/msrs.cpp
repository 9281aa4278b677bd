// SPDX-License-Identifier: GPL-2.0-only
#include "run/msrs.h"

#include <asm/kvm_para.h>
#include "machine/vm.h"
#include "run/apic_effects.h"
#include "run/clock_page.h"
#include "x86/control_registers.h"
#include "x86/memory_types.h"
#include "x86/msr.h"

namespace kvmpp::run
{
namespace
{

namespace msr = x86::msr;
namespace feature = x86::feature;
using machine::Request;

constexpr bool canonical(u64 address)
{
	return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address;
}

// --- MTRRs: kept for the guest, which has no say in how its memory is cached ----------------------

u64 *find_mtrr(machine::Mtrrs &mtrrs, u32 index)
{
	switch (index) {
	case msr::mtrr_default_type: return &mtrrs.default_type;
	case msr::mtrr_phys_base0 ... msr::mtrr_phys_base0 + 2 * machine::Mtrrs::variable_count - 1:
		return &mtrrs.variable[index - msr::mtrr_phys_base0];
	case msr::mtrr_fix_64k: return &mtrrs.fixed[0];
	case msr::mtrr_fix_16k_80000: return &mtrrs.fixed[1];
	case msr::mtrr_fix_16k_a0000: return &mtrrs.fixed[2];
	case msr::mtrr_fix_4k_c0000 ... msr::mtrr_fix_4k_f8000:
		return &mtrrs.fixed[3 + index - msr::mtrr_fix_4k_c0000];
	default: return nullptr;
	}
}

// --- single registers ---------------------------------------------------------------------------

bool write_efer(Vcpu &vcpu, vmx::Current vmcs, u64 value, By by)
{
	using namespace x86::efer;
	const u64 old = vcpu.state.efer();
	if (value & ~(sce | lme | lma | nx))
		return false;
	if (by == By::guest) {
		if (value & ~vcpu.cpuid.efer_allowed())
			return false;
		if ((old ^ value) & lme && vcpu.state.cr0(vmcs) & X86_CR0_PG)
			return false;
	}
	vcpu.state.set_efer((value & ~lma) | (old & lma));
	if ((old ^ value) & nx)
		vcpu.mailbox.request(Request::flush_linear);
	return true;
}

bool write_tsc(Vcpu &vcpu, u64 value, By by)
{
	const u64 offset = by == By::vmm ? vcpu.vm.tsc_offset_for(vcpu.tsc, value)
				   : vcpu.tsc.offset_for(value);
	if (by == By::guest)
		vcpu.msrs.tsc_adjust += offset - vcpu.tsc.offset();
	vcpu.set_tsc_offset(offset);
	return true;
}

bool write_tsc_adjust(Vcpu &vcpu, u64 value, By by)
{
	// A guest moves its TSC with it; a VMM restores the TSC by itself.
	if (by == By::guest)
		vcpu.set_tsc_offset(vcpu.tsc.offset() + value - vcpu.msrs.tsc_adjust);
	vcpu.msrs.tsc_adjust = value;
	return true;
}

bool has_spec_ctrl(const Vcpu &vcpu)
{
	return vcpu.cpuid.has(feature::spec_ctrl) || vcpu.cpuid.has(feature::stibp) ||
	       vcpu.cpuid.has(feature::ssbd);
}

bool write_spec_ctrl(Vcpu &vcpu, u64 value, By by)
{
	constexpr u64 ibrs = 1, stibp = 2, ssbd = 4;
	if ((by == By::guest && !has_spec_ctrl(vcpu)) || value & ~(ibrs | stibp | ssbd))
		return false;
	vmx::World &world = vcpu.residency.world();
	world.spec_ctrl = static_cast<u32>(value);
	// A guest that uses it may do so without exits from now on.
	if (value && by == By::guest && !vcpu.vm.options().filters_msrs) {
		vcpu.msr_bitmap.intercept(msr::spec_ctrl, false);
		world.save_spec_ctrl = true;
	}
	return true;
}

bool write_pred_cmd(Vcpu &vcpu, u64 value, By by)
{
	constexpr u64 ibpb = 1;
	if ((by == By::guest && !vcpu.cpuid.has(feature::spec_ctrl)) || value & ~ibpb)
		return false;
	if (value) {
		kvmpp_branch_barrier();
		if (!vcpu.vm.options().filters_msrs)
			vcpu.msr_bitmap.intercept_writes(msr::pred_cmd, false);
	}
	return true;
}

bool write_debugctl(u64 value)
{
	// Branch recording is not offered, but guests switch it off, or on in vain.
	constexpr u64 lbr = 1, btf = 2;
	return !(value & ~(lbr | btf));
}

bool write_resident(Vcpu &vcpu, u32 index, u64 value)
{
	machine::ResidentMsrs values = vcpu.residency.msrs();
	switch (index) {
	case msr::star: values.star = value; break;
	case msr::lstar: values.lstar = value; break;
	case msr::syscall_mask: values.syscall_mask = static_cast<u32>(value); break;
	case msr::kernel_gs_base: values.kernel_gs_base = value; break;
	case msr::tsc_aux: values.tsc_aux = static_cast<u32>(value); break;
	}
	vcpu.residency.set_msrs(values);
	return true;
}

bool write_segment_base(Vcpu &vcpu, vmx::Current vmcs, x86::SegmentName name, u64 value)
{
	x86::Segment segment = vcpu.state.segment(vmcs, name);
	segment.base = value;
	vcpu.state.set_segment(name, segment);
	return true;
}

bool write_sysenter(Vcpu &vcpu, vmx::Current vmcs, u32 index, u64 value)
{
	vmx::Sysenter sysenter = vcpu.state.sysenter(vmcs);
	switch (index) {
	// The VMCS holds 32 bits of it.
	case msr::sysenter_cs: sysenter.cs = static_cast<u32>(value); break;
	case msr::sysenter_esp: sysenter.esp = value; break;
	case msr::sysenter_eip: sysenter.eip = value; break;
	}
	vcpu.state.set_sysenter(sysenter);
	return true;
}

bool write_system_time(Vcpu &vcpu, u64 value)
{
	vcpu.msrs.system_time = value;
	vcpu.mailbox.request(Request::clock);
	return true;
}

bool write_steal_time(Vcpu &vcpu, u64 value)
{
	if (!vcpu.steal_time.set_msr(value, kvmpp_run_delay_ns()))
		return false;
	vcpu.mailbox.request(Request::steal_time);
	return true;
}

bool write_async_fault(Vcpu &vcpu, u64 value, By by)
{
	if (by == By::guest && value & KVM_ASYNC_PF_DELIVERY_AS_INT &&
		!vcpu.has_paravirtual(KVM_FEATURE_ASYNC_PF_INT))
		return false;
	// The interrupt comes from a local APIC of ours.
	return (vcpu.lapic || !value) && vcpu.async_faults.set_msr(value, vcpu.paravirtual_memory);
}

// --- KVM's own ------------------------------------------------------------------------------------

constexpr u32 feature_of(u32 index)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME: return KVM_FEATURE_CLOCKSOURCE;
	case MSR_KVM_STEAL_TIME: return KVM_FEATURE_STEAL_TIME;
	case MSR_KVM_PV_EOI_EN: return KVM_FEATURE_PV_EOI;
	case MSR_KVM_POLL_CONTROL: return KVM_FEATURE_POLL_CONTROL;
	case MSR_KVM_ASYNC_PF_EN: return KVM_FEATURE_ASYNC_PF;
	case MSR_KVM_ASYNC_PF_INT:
	case MSR_KVM_ASYNC_PF_ACK: return KVM_FEATURE_ASYNC_PF_INT;
	default: return KVM_FEATURE_CLOCKSOURCE2;
	}
}

std::optional<u64> read_paravirtual(Vcpu &vcpu, u32 index, By by)
{
	const auto &msrs = vcpu.msrs;
	if (by == By::guest && !vcpu.has_paravirtual(feature_of(index)))
		return {};
	switch (index) {
	case MSR_KVM_STEAL_TIME: return vcpu.steal_time.msr();
	case MSR_KVM_PV_EOI_EN: return vcpu.pv_eoi.msr();
	case MSR_KVM_POLL_CONTROL: return msrs.poll_control;
	case MSR_KVM_ASYNC_PF_EN: return vcpu.async_faults.msr();
	case MSR_KVM_ASYNC_PF_INT: return vcpu.async_faults.vector();
	case MSR_KVM_ASYNC_PF_ACK: return 0;
	// Two numbers for one: QEMU saves and restores the old one, whichever the guest has used.
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: return msrs.system_time;
	default: return msrs.wall_clock;
	}
}

bool write_paravirtual(Vcpu &vcpu, u32 index, u64 value, By by)
{
	if (by == By::guest && !vcpu.has_paravirtual(feature_of(index)))
		return false;
	switch (index) {
	case MSR_KVM_STEAL_TIME: return write_steal_time(vcpu, value);
	case MSR_KVM_PV_EOI_EN: return vcpu.pv_eoi.set_msr(value);
	case MSR_KVM_POLL_CONTROL:
		if (value & ~u64{1})
			return false;
		vcpu.msrs.poll_control = value;
		return true;
	case MSR_KVM_ASYNC_PF_EN: return write_async_fault(vcpu, value, by);
	case MSR_KVM_ASYNC_PF_INT: return (vcpu.lapic || !value) && vcpu.async_faults.set_vector(value);
	case MSR_KVM_ASYNC_PF_ACK:
		if (value & 1)
			vcpu.mailbox.request(Request::async_fault);
		return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: return write_system_time(vcpu, value);
	default:
		vcpu.msrs.wall_clock = value;
		write_wall_clock(vcpu, Gpa{value});
		return true;
	}
}

// Performance events and branch records of processors without them: read as zero, and may be cleared.
constexpr bool reads_as_zero(u32 index)
{
	switch (index) {
	case msr::platform_id:
	case msr::ebl_cr_poweron:
	case msr::p5_mc_addr:
	case msr::p5_mc_type:
	case msr::bbl_cr_ctl3:
	case msr::perf_status:
	case msr::last_branch_from:
	case msr::last_branch_to:
	case msr::last_interrupt_from:
	case msr::last_interrupt_to:
	case msr::misc_features_enables:
	case msr::fsb_freq: return true;
	default: return false;
	}
}

} // namespace

std::optional<u64> read_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index, By by)
{
	auto &msrs = vcpu.msrs;
	if (x86::is_x2apic_msr(index))
		return vcpu.lapic ? vcpu.lapic->read_msr(index) : std::nullopt;

	switch (index) {
	case msr::tsc: return vcpu.tsc.now();
	case msr::tsc_adjust: return msrs.tsc_adjust;
	case msr::tsc_deadline:
		return vcpu.lapic ? vcpu.lapic->tsc_deadline() : 0;
	case msr::apic_base: return vcpu.apic_base();
	case msr::efer: return vcpu.state.efer();
	case msr::pat: return vcpu.state.pat();
	case msr::star: return vcpu.residency.msrs().star;
	case msr::lstar: return vcpu.residency.msrs().lstar;
	case msr::cstar: return msrs.cstar;
	case msr::syscall_mask: return vcpu.residency.msrs().syscall_mask;
	case msr::kernel_gs_base: return vcpu.residency.msrs().kernel_gs_base;
	case msr::tsc_aux:
		if (by == By::guest && !vcpu.cpuid.has(feature::rdtscp) && !vcpu.cpuid.has(feature::rdpid))
			return {};
		return vcpu.residency.msrs().tsc_aux;
	case msr::fs_base: return vcpu.state.segment_base(vmcs, x86::SegmentName::fs);
	case msr::gs_base: return vcpu.state.segment_base(vmcs, x86::SegmentName::gs);
	case msr::sysenter_cs: return vcpu.state.sysenter(vmcs).cs;
	case msr::sysenter_esp: return vcpu.state.sysenter(vmcs).esp;
	case msr::sysenter_eip: return vcpu.state.sysenter(vmcs).eip;
	case msr::spec_ctrl:
		if (by == By::guest && !has_spec_ctrl(vcpu))
			return {};
		return vcpu.residency.world().spec_ctrl;
	case msr::arch_capabilities:
		if (by == By::guest && !vcpu.cpuid.has(feature::arch_capabilities))
			return {};
		return msrs.arch_capabilities;
	case msr::microcode_revision: return msrs.microcode_revision;
	case msr::platform_info:
		if (by == By::guest && vcpu.vm.options().hides_platform_info)
			return {};
		return msrs.platform_info;
	case msr::misc_enable: return msrs.misc_enable;
	case msr::debugctl: return 0;
	case msr::smbase:
		return by == By::vmm || vcpu.smm.active ? std::optional<u64>{vcpu.smm.base} : std::nullopt;
	case msr::smi_count: return vcpu.smm.count;
	case msr::feature_control: return by == By::vmm ? std::optional{msrs.feature_control} : std::nullopt;
	case msr::mcg_cap:
	case msr::mcg_status:
	case msr::mcg_ctl: return vcpu.machine_check.read(index);
	case msr::xss: return msrs.xss;
	case msr::power_ctl: return msrs.power_ctl;
	case msr::mtrr_cap: {
		constexpr u64 fixed_ranges = bit(8), write_combining = bit(10);
		return machine::Mtrrs::variable_count | fixed_ranges | write_combining;
	}
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_STEAL_TIME:
	case MSR_KVM_PV_EOI_EN:
	case MSR_KVM_POLL_CONTROL:
	case MSR_KVM_ASYNC_PF_EN:
	case MSR_KVM_ASYNC_PF_INT:
	case MSR_KVM_ASYNC_PF_ACK:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: return read_paravirtual(vcpu, index, by);
	}
	if (const u64 *mtrr = find_mtrr(msrs.mtrrs, index))
		return *mtrr;
	if (x86::MachineCheck::is_bank(index))
		return vcpu.machine_check.read(index);
	if (reads_as_zero(index))
		return 0;
	return {};
}

namespace
{

// All but those that guests write all the time.
[[gnu::noinline]] bool write_other(Vcpu &vcpu, vmx::Current vmcs, u32 index, u64 value, By by)
{
	auto &msrs = vcpu.msrs;
	switch (index) {
	case msr::tsc: return write_tsc(vcpu, value, by);
	case msr::tsc_adjust: return write_tsc_adjust(vcpu, value, by);
	case msr::apic_base: return vcpu.set_apic_base(value, by == By::vmm).has_value();
	case msr::efer: return write_efer(vcpu, vmcs, value, by);
	case msr::pat:
		if (!x86::pat_valid(value))
			return false;
		vcpu.state.set_pat(value);
		return true;
	case msr::cstar:
		if (!canonical(value))
			return false;
		msrs.cstar = value;
		return true;
	case msr::lstar:
	case msr::kernel_gs_base:
		return canonical(value) && write_resident(vcpu, index, value);
	case msr::tsc_aux:
		if (by == By::guest && !vcpu.cpuid.has(feature::rdtscp) && !vcpu.cpuid.has(feature::rdpid))
			return false;
		return !(value >> 32) && write_resident(vcpu, index, value);
	case msr::star:
	case msr::syscall_mask: return write_resident(vcpu, index, value);
	case msr::fs_base:
		return canonical(value) && write_segment_base(vcpu, vmcs, x86::SegmentName::fs, value);
	case msr::gs_base:
		return canonical(value) && write_segment_base(vcpu, vmcs, x86::SegmentName::gs, value);
	case msr::sysenter_cs: return write_sysenter(vcpu, vmcs, index, value);
	case msr::sysenter_esp:
	case msr::sysenter_eip: return canonical(value) && write_sysenter(vcpu, vmcs, index, value);
	case msr::spec_ctrl: return write_spec_ctrl(vcpu, value, by);
	case msr::pred_cmd: return write_pred_cmd(vcpu, value, by);
	case msr::debugctl: return write_debugctl(value);
	case msr::misc_enable:
		msrs.misc_enable = value;
		vcpu.follow_misc_enable(vcpu.cpuid);
		return true;
	case msr::mcg_cap:
	case msr::mcg_status:
	case msr::mcg_ctl: return vcpu.machine_check.write(index, value, by == By::vmm);
	case msr::xss:
		if (value || !vcpu.cpuid.has(feature::xsaves))
			return value == 0 && by == By::vmm;
		return true;
	case msr::power_ctl: msrs.power_ctl = value; return true;
	case msr::microcode_update: return true; // as KVM: accepted, and nothing is updated
	case msr::microcode_revision:
		// A guest writes 0 before it asks for the revision.
		if (by == By::vmm)
			msrs.microcode_revision = value;
		return true;
	case msr::arch_capabilities:
		if (by == By::guest)
			return false;
		msrs.arch_capabilities = value;
		return true;
	case msr::platform_info:
		if (by == By::guest)
			return false;
		msrs.platform_info = value;
		return true;
	case msr::smbase: // a guest changes it in the state that RSM loads
		if (by == By::guest || value >> 32)
			return false;
		vcpu.smm.base = static_cast<u32>(value);
		return true;
	case msr::smi_count:
		if (by == By::guest)
			return false;
		vcpu.smm.count = value;
		return true;
	case msr::feature_control:
		if (by == By::guest)
			return false;
		msrs.feature_control = value;
		return true;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_STEAL_TIME:
	case MSR_KVM_PV_EOI_EN:
	case MSR_KVM_POLL_CONTROL:
	case MSR_KVM_ASYNC_PF_EN:
	case MSR_KVM_ASYNC_PF_INT:
	case MSR_KVM_ASYNC_PF_ACK:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: return write_paravirtual(vcpu, index, value, by);
	}
	if (u64 *mtrr = find_mtrr(msrs.mtrrs, index)) {
		if (!x86::mtrr_valid(index, value, vcpu.cpuid.physical_bits()))
			return false;
		*mtrr = value;
		return true;
	}
	if (x86::MachineCheck::is_bank(index))
		return vcpu.machine_check.write(index, value, by == By::vmm);
	// Writable where a zero makes no difference.
	return reads_as_zero(index) && value == 0;
}

} // namespace

bool write_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index, u64 value, By by)
{
	if (index == msr::tsc_deadline) {
		vcpu.set_tsc_deadline(value);
		return true;
	}
	if (x86::is_x2apic_msr(index))
		return vcpu.lapic && apply_apic_effect(vcpu, vcpu.lapic->write_msr(index, value));
	return write_other(vcpu, vmcs, index, value, by);
}

bool knows_msr(Vcpu &vcpu, vmx::Current vmcs, u32 index)
{
	switch (index) {
	case msr::pred_cmd:
	case msr::microcode_update: return true; // written only
	default: return x86::is_x2apic_msr(index) || read_msr(vcpu, vmcs, index, By::vmm).has_value();
	}
}

} // namespace kvmpp::run
