// SPDX-License-Identifier: GPL-2.0-only
#include "machine/residency.h"

#include "host/task.h"
#include "vmx/fields.h"
#include "x86/msr.h"

namespace kvmpp::machine
{

namespace field = vmx::field;
namespace msr = x86::msr;

void UserReturnSlots::find()
{
	star = kvmpp_user_return_msr_register(msr::star);
	lstar = kvmpp_user_return_msr_register(msr::lstar);
	syscall_mask = kvmpp_user_return_msr_register(msr::syscall_mask);
	tsc_aux = kvmpp_user_return_msr_register(msr::tsc_aux);
}

Result<vmx::Current> Residency::load()
{
	host::PreemptionOff off;
	// What an ioctl did without its VMCS cannot be trusted.
	TRY(status());
	TRY(arrive());
	kvmpp_switch_watch_start(&switch_watch_, this);
	loaded_ = true;
	return engine_.current(*vmcs_);
}

void Residency::put()
{
	if (!std::exchange(loaded_, false))
		return;
	host::PreemptionOff off;
	kvmpp_switch_watch_stop(&switch_watch_);
	unload_guest();
	engine_.unload(*vmcs_);
}

void Residency::pause()
{
	if (engine_.on_demand())
		put();
}

Result<> Residency::resume()
{
	if (!loaded_)
		TRY(load());
	return {};
}

// Preemption off, or being scheduled in.
Result<> Residency::arrive()
{
	const auto loaded = TRY(engine_.load(*vmcs_));
	if (loaded.was_current)
		return {};
	moved_ |= loaded.moved;
	// Another vCPU's branches must not steer this one's.
	if (engine_.mitigations() & KVMPP_IBPB_ON_SWITCH)
		kvmpp_branch_barrier();
	if (host_cpu_ != kvmpp_cpu_current())
		write_host_state(loaded.vmcs);
	return {};
}

// What differs from CPU to CPU.
void Residency::write_host_state(vmx::Current vmcs)
{
	kvmpp_host_tables host;
	kvmpp_host_tables_get(&host);
	vmcs.write(field::host_cs, host.cs);
	vmcs.write(field::host_ss, host.ss);
	vmcs.write(field::host_tr, host.tss_selector);
	vmcs.write(field::host_tr_base, host.tss_base);
	vmcs.write(field::host_gdtr_base, host.gdt_base);
	vmcs.write(field::host_idtr_base, host.idt_base);
	vmcs.write(field::host_gs_base, host.gs_base);
	vmcs.write(field::host_sysenter_cs, host.sysenter_cs);
	vmcs.write(field::host_sysenter_esp, host.sysenter_esp);
	vmcs.write(field::host_sysenter_eip, host.sysenter_eip);
	vmcs.write(field::host_efer, host.efer);
	vmcs.write(field::host_pat, host.pat);
	// A VM exit may load none but null selectors and ring 0's (SDM vol. 3, 27.2.3); user
	// mode's are restored when the thread leaves the CPU.
	vmcs.write(field::host_ds, 0);
	vmcs.write(field::host_es, 0);
	vmcs.write(field::host_fs, 0);
	vmcs.write(field::host_gs, 0);
	host_cpu_ = kvmpp_cpu_current();
}

void Residency::load_guest_msrs(vmx::Current vmcs)
{
	kvmpp_user_segments_save(&user_segments_);
	if (user_segments_.fs_base != written_fs_base_) {
		written_fs_base_ = user_segments_.fs_base;
		vmcs.write(field::host_fs_base, written_fs_base_);
	}
	host_debugctl_ = kvmpp_debugctl();
	kvmpp_msr_write(msr::kernel_gs_base, guest_.kernel_gs_base);

	const auto set = [](int slot, u64 value) {
		if (slot >= 0)
			kvmpp_user_return_msr_set(slot, value, ~u64{0});
	};
	set(slots_.star, guest_.star);
	set(slots_.lstar, guest_.lstar);
	set(slots_.syscall_mask, guest_.syscall_mask);
	set(slots_.tsc_aux, guest_.tsc_aux);
	guest_msrs_loaded_ = true;
}

void Residency::unload_guest()
{
	if (!guest_msrs_loaded_)
		return;
	// The guest swaps it without our knowledge (SWAPGS).
	kvmpp_msr_read(msr::kernel_gs_base, &guest_.kernel_gs_base);
	kvmpp_user_segments_restore(&user_segments_);
	guest_msrs_loaded_ = false;
}

const ResidentMsrs &Residency::msrs()
{
	host::PreemptionOff off;
	if (guest_msrs_loaded_)
		kvmpp_msr_read(msr::kernel_gs_base, &guest_.kernel_gs_base);
	return guest_;
}

void Residency::set_msrs(const ResidentMsrs &values)
{
	host::PreemptionOff off;
	unload_guest();
	guest_ = values;
}

} // namespace kvmpp::machine

extern "C" {

void kvmpp_switched_in(void *owner, unsigned int)
{
	auto &residency = *static_cast<kvmpp::machine::Residency *>(owner);
	residency.away_.store(false, std::memory_order_relaxed);
	if (const auto arrived = residency.arrive(); !arrived)
		residency.lost_ = -arrived.error().value();
}

void kvmpp_switched_out(void *owner)
{
	auto &residency = *static_cast<kvmpp::machine::Residency *>(owner);
	residency.away_.store(true, std::memory_order_relaxed);
	residency.unload_guest();
	residency.switched_out_();
}
}
