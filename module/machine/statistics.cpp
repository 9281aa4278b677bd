// SPDX-License-Identifier: GPL-2.0-only
#include "machine/statistics.h"

namespace kvmpp::machine
{
namespace
{

using vmx::ExitReason;

struct NamedReason {
	ExitReason reason;
	const char *name;
};

constexpr NamedReason exit_reasons[] = {
	{ExitReason::exception_or_nmi, "exit_exception_or_nmi"},
	{ExitReason::external_interrupt, "exit_external_interrupt"},
	{ExitReason::triple_fault, "exit_triple_fault"},
	{ExitReason::init_signal, "exit_init_signal"},
	{ExitReason::sipi_signal, "exit_sipi_signal"},
	{ExitReason::interrupt_window, "exit_interrupt_window"},
	{ExitReason::nmi_window, "exit_nmi_window"},
	{ExitReason::task_switch, "exit_task_switch"},
	{ExitReason::cpuid, "exit_cpuid"},
	{ExitReason::hlt, "exit_hlt"},
	{ExitReason::invd, "exit_invd"},
	{ExitReason::invlpg, "exit_invlpg"},
	{ExitReason::rdpmc, "exit_rdpmc"},
	{ExitReason::rdtsc, "exit_rdtsc"},
	{ExitReason::vmcall, "exit_vmcall"},
	{ExitReason::vmclear, "exit_vmclear"},
	{ExitReason::vmlaunch, "exit_vmlaunch"},
	{ExitReason::vmptrld, "exit_vmptrld"},
	{ExitReason::vmptrst, "exit_vmptrst"},
	{ExitReason::vmread, "exit_vmread"},
	{ExitReason::vmresume, "exit_vmresume"},
	{ExitReason::vmwrite, "exit_vmwrite"},
	{ExitReason::vmxoff, "exit_vmxoff"},
	{ExitReason::vmxon, "exit_vmxon"},
	{ExitReason::cr_access, "exit_cr_access"},
	{ExitReason::dr_access, "exit_dr_access"},
	{ExitReason::io_instruction, "exit_io_instruction"},
	{ExitReason::msr_read, "exit_msr_read"},
	{ExitReason::msr_write, "exit_msr_write"},
	{ExitReason::invalid_state, "exit_invalid_state"},
	{ExitReason::msr_load_failed, "exit_msr_load_failed"},
	{ExitReason::mwait, "exit_mwait"},
	{ExitReason::monitor_trap, "exit_monitor_trap"},
	{ExitReason::monitor, "exit_monitor"},
	{ExitReason::pause, "exit_pause"},
	{ExitReason::machine_check_at_entry, "exit_machine_check_at_entry"},
	{ExitReason::tpr_below_threshold, "exit_tpr_below_threshold"},
	{ExitReason::apic_access, "exit_apic_access"},
	{ExitReason::eoi_induced, "exit_eoi_induced"},
	{ExitReason::gdtr_idtr, "exit_gdtr_idtr"},
	{ExitReason::ldtr_tr, "exit_ldtr_tr"},
	{ExitReason::ept_violation, "exit_ept_violation"},
	{ExitReason::ept_misconfiguration, "exit_ept_misconfiguration"},
	{ExitReason::invept, "exit_invept"},
	{ExitReason::rdtscp, "exit_rdtscp"},
	{ExitReason::preemption_timer, "exit_preemption_timer"},
	{ExitReason::invvpid, "exit_invvpid"},
	{ExitReason::wbinvd, "exit_wbinvd"},
	{ExitReason::xsetbv, "exit_xsetbv"},
	{ExitReason::apic_write, "exit_apic_write"},
	{ExitReason::rdrand, "exit_rdrand"},
	{ExitReason::invpcid, "exit_invpcid"},
	{ExitReason::vmfunc, "exit_vmfunc"},
	{ExitReason::encls, "exit_encls"},
	{ExitReason::rdseed, "exit_rdseed"},
	{ExitReason::pml_full, "exit_pml_full"},
	{ExitReason::xsaves, "exit_xsaves"},
	{ExitReason::xrstors, "exit_xrstors"},
	{ExitReason::umwait, "exit_umwait"},
	{ExitReason::tpause, "exit_tpause"},
	{ExitReason::bus_lock, "exit_bus_lock"},
	{ExitReason::notify, "exit_notify"},
};
static_assert(std::size(exit_reasons) == VcpuStatistics::known_reasons);

constexpr unsigned first_reason = static_cast<unsigned>(VcpuCounter::exits_by_reason);

constexpr auto vcpu_names = [] {
	std::array<const char *, VcpuStatistics::count> names{"entries", "exits", "exits_to_user", "signals",
		"halts", "events_injected", "instructions_emulated", "page_faults",
		"halt_attempted_poll", "halt_successful_poll", "halt_wakeup", "async_page_faults",
		"async_pages_ready"};
	for (unsigned i = 0; i < std::size(exit_reasons); ++i)
		names[first_reason + i] = exit_reasons[i].name;
	names[VcpuStatistics::other] = "exit_other";
	return names;
}();

constexpr const char *vm_names[] = {
	"remote_tlb_flushes", "invalidations", "mapped_4k", "mapped_2m", "mapped_1g"};
static_assert(std::size(vm_names) == static_cast<u8>(VmCounter::count));

} // namespace

constinit const std::array<u8, 80> VcpuStatistics::slots = [] {
	std::array<u8, 80> result{};
	for (u8 &slot : result)
		slot = VcpuStatistics::other;
	for (unsigned i = 0; i < std::size(exit_reasons); ++i)
		result[static_cast<u16>(exit_reasons[i].reason)] = first_reason + i;
	return result;
}();

kvmpp_counters VcpuStatistics::counters() const
{
	return {vcpu_names.data(), values_.data(), count};
}

kvmpp_counters VmStatistics::counters() const
{
	return {vm_names, values_.data(), static_cast<unsigned>(values_.size())};
}

} // namespace kvmpp::machine
