// SPDX-License-Identifier: GPL-2.0-only
// Registers of the simulated processors: MSRs, control registers, mitigations.
#include "sim/cpu/model.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>
#include "sim/faults.h"
#include "sim/host.h"
#include "x86/msr.h"
#include "vmx/controls.h"

namespace kvmpp::sim
{
namespace
{

namespace msr = x86::msr;

constexpr u64 vmxe = 1 << 13;

u64 secondary_capabilities()
{
	using namespace vmx::secondary;
	constexpr u32 vmfunc = 1 << 13, shadowing = 1 << 14, virtualization_exception = 1 << 18;
	return u64{virtual_apic_accesses | ept | descriptor_table_exiting | rdtscp | virtual_x2apic | vpid |
		       wbinvd_exiting | unrestricted_guest | apic_register_virtualization |
		       virtual_interrupt_delivery | pause_loop_exiting | rdrand_exiting | invpcid |
		       rdseed_exiting | pml | xsaves | tsc_scaling | bus_lock_detection | notify_exiting | vmfunc | shadowing |
		       virtualization_exception}
	       << 32;
}

std::map<u32, u64> plausible_msrs(unsigned cpu)
{
	// SDM vol. 3, appendix A: bits that must be set in the low half, that may be in the high one.
	return {{msr::vmx_basic, 0x00da040000000004},
		{msr::vmx_pin, 0x000000ff00000016},
		{msr::vmx_true_pin, 0x000000ff00000016},
		{msr::vmx_primary, 0xfff9fffe0401e172},
		{msr::vmx_true_primary, 0xfff9fffe04006172},
		{msr::vmx_exit, 0x01ffffff00036dff},
		{msr::vmx_true_exit, 0x01ffffff00036dfb},
		{msr::vmx_entry, 0x0003ffff000011ff},
		{msr::vmx_true_entry, 0x0003ffff000011fb},
		{msr::vmx_misc, 0x5004c1e7},
		{msr::vmx_cr0_fixed0, 0x80000021},
		{msr::vmx_cr0_fixed1, 0xffffffff},
		{msr::vmx_cr4_fixed0, vmxe},
		{msr::vmx_cr4_fixed1, 0x3767ff},
		{msr::vmx_secondary, secondary_capabilities()},
		{msr::vmx_ept_vpid, 0x00000f0106734141},
		{msr::feature_control,
			msr::feature_control_bits::locked | msr::feature_control_bits::vmx_outside_smx},
		{msr::arch_capabilities, 0},
		{msr::spec_ctrl, 0},
		{msr::pred_cmd, 0},
		{msr::flush_cmd, 0},
		{msr::debugctl, 0},
		{msr::efer, 0xd01},
		{msr::pat, 0x0407050600070106},
		{msr::star, 0x0023001000000000},
		{msr::lstar, 0xffffffff81a00000},
		{msr::cstar, 0xffffffff81a01000},
		{msr::syscall_mask, 0x257fd5},
		{msr::fs_base, 0x7f0000000700},
		{msr::gs_base, 0xffff888100000000 + cpu * 0x40000},
		{msr::kernel_gs_base, 0},
		{msr::tsc_aux, cpu},
		{msr::sysenter_cs, 0x10},
		{msr::sysenter_esp, 0xfffffe0000003000 + cpu * 0x40000},
		{msr::sysenter_eip, 0xffffffff81a02000}};
}

// The host's own values, looked at whenever a thread returns to user mode.
const std::map<u32, u64> &host_msrs(unsigned cpu)
{
	static const auto all = [] {
		std::array<std::map<u32, u64>, cpu_limit> result;
		for (unsigned i = 0; i < cpu_limit; ++i)
			result[i] = plausible_msrs(i);
		return result;
	}();
	return all.at(cpu);
}

u32 mitigation_bits = 0;
int apicv = -1;
bool mwait_usable = true;
bool pml = true;
std::vector<u32> user_return_msrs;

} // namespace

void give_plausible_registers(Cpu &cpu)
{
	cpu.msrs = host_msrs(cpu.number);
	cpu.cr0 = 0x80050033;
	cpu.cr2 = 0;
	cpu.cr3 = 0x1000000 | cpu.number;
	cpu.cr4 = 0x3706e0;
	cpu.xcr0 = 0xe7;
	cpu.debug = {};
}

void reset_model()
{
	mitigation_bits = 0;
	apicv = -1;
	mwait_usable = true;
	pml = true;
	user_return_msrs.clear();
	reset_cpuid();
}

void check_host_registers(const Cpu &cpu)
{
	const auto &expected = host_msrs(cpu.number);
	for (const u32 index : {msr::star, msr::lstar, msr::syscall_mask, msr::tsc_aux,
		     msr::kernel_gs_base, msr::spec_ctrl, msr::efer, msr::pat}) {
		const auto is = cpu.msrs.find(index), should = expected.find(index);
		if (is != cpu.msrs.end() && is->second != should->second)
			die("MSR %#x has a guest's value in user mode: %#llx", index, is->second);
	}
	if (cpu.xcr0 != 0xe7)
		die("XCR0 has a guest's value in user mode: %#llx", cpu.xcr0);
}

void set_mitigations(u32 mitigations)
{
	mitigation_bits = mitigations;
}

void set_mwait_usable(bool usable)
{
	mwait_usable = usable;
}

void set_apicv(int wanted)
{
	apicv = wanted;
}

void set_pml(bool wanted)
{
	pml = wanted;
}

void set_msr_everywhere(u32 index, std::optional<u64> value)
{
	for (unsigned i = 0; i < cpu_limit; ++i) {
		if (value)
			cpu(i).msrs[index] = *value;
		else
			cpu(i).msrs.erase(index);
	}
}

} // namespace kvmpp::sim

using namespace kvmpp;
namespace msr = kvmpp::x86::msr;

int kvmpp_msr_read(__u32 index, __u64 *value)
{
	const auto &msrs = sim::this_cpu().msrs;
	const auto found = msrs.find(index);
	if (found == msrs.end())
		return -EIO;
	*value = found->second;
	return 0;
}

int kvmpp_msr_write(__u32 index, __u64 value)
{
	sim::Cpu &cpu = sim::this_cpu();
	const auto found = cpu.msrs.find(index);
	constexpr u64 locked = msr::feature_control_bits::locked;
	if (found == cpu.msrs.end() || (index == msr::feature_control && found->second & locked))
		return -EIO;
	if (index == msr::flush_cmd) {
		++cpu.counts.l1d_flushes;
		return 0;
	}
	found->second = value;
	return 0;
}

__u64 kvmpp_cr4_read(void)
{
	return sim::this_cpu().cr4;
}

void kvmpp_cr4_set_vmxe(int on)
{
	sim::Cpu &cpu = sim::this_cpu();
	if (!on && cpu.vtx.on)
		sim::die("CR4.VMXE is cleared in VMX operation: #GP");
	cpu.cr4 = on ? cpu.cr4 | sim::vmxe : cpu.cr4 & ~sim::vmxe;
}

int kvmpp_force_emulation(void)
{
	return 0;
}

int kvmpp_apicv(void)
{
	return sim::apicv;
}

int kvmpp_mwait_usable(void)
{
	return sim::mwait_usable;
}

int kvmpp_pml(void)
{
	return sim::pml;
}

__u32 kvmpp_mitigations(void)
{
	return sim::mitigation_bits;
}

int kvmpp_l1d_flush_wanted(void)
{
	return std::exchange(sim::this_cpu().l1d_flush_wanted, false);
}

__u64 kvmpp_spec_ctrl_host(void)
{
	return 0;
}

void kvmpp_branch_barrier(void)
{
	++sim::this_cpu().counts.branch_barriers;
}

void kvmpp_branch_barrier_on_user_exit(void)
{
	++sim::this_cpu().counts.branch_barriers;
}

int kvmpp_user_return_msr_register(__u32 index)
{
	if (sim::fails_now(sim::Fallible::host_call) || !sim::this_cpu().msrs.contains(index))
		return -ENXIO;
	const auto known = std::ranges::find(sim::user_return_msrs, index);
	if (known != sim::user_return_msrs.end())
		return static_cast<int>(known - sim::user_return_msrs.begin());
	sim::user_return_msrs.push_back(index);
	return static_cast<int>(sim::user_return_msrs.size() - 1);
}

void kvmpp_user_return_msr_set(unsigned int slot, __u64 value, __u64 mask)
{
	sim::Cpu &cpu = sim::this_cpu();
	u64 &current = cpu.msrs[sim::user_return_msrs.at(slot)];
	current = (value & mask) | (current & ~mask);
	cpu.user_return_armed = true;
}

void kvmpp_user_return_msrs_restore(void)
{
	sim::Cpu &cpu = sim::this_cpu();
	const auto &host = sim::host_msrs(cpu.number);
	for (const u32 index : sim::user_return_msrs)
		cpu.msrs[index] = host.at(index);
	cpu.user_return_armed = false;
}
