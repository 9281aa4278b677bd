// SPDX-License-Identifier: GPL-2.0-only
// The table of operations, and going through it.
#include "kvmpp/bench/operations.h"

#include <algorithm>
#include "kvmpp/bench/addresses.h"
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/bench/measuring.h"
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

using lib::u64;

namespace
{

struct Operation {
	const char *key, *description;
	Measure measure;
	int extension = 0; // without which it cannot be measured; 0: none
	const char *extension_name = "";
};

std::vector<Operation> operations()
{
	constexpr u64 unknown_hypercall = 1000;
	constexpr u64 apic_base = 0x1b, tsc_deadline = 0x6e0; // MSRs
	return {
		{"null_ioctl", "null ioctl (KVM_GET_API_VERSION)", null_ioctl},
		{"cpuid", "CPUID exit, handled in kernel", in_guest(kvmpp_bench_cpuid)},
		{"vmcall", "unknown VMCALL", in_guest(kvmpp_bench_vmcall, unknown_hypercall)},
		{"rdmsr_apic_base", "RDMSR APIC_BASE", in_guest(kvmpp_bench_rdmsr, apic_base)},
		{"wrmsr_tsc_deadline", "WRMSR TSC_DEADLINE (disarm)",
			in_guest(kvmpp_bench_wrmsr, tsc_deadline), KVM_CAP_TSC_DEADLINE_TIMER,
			"KVM_CAP_TSC_DEADLINE_TIMER"},
		{"ioeventfd_port_write", "port write to an ioeventfd", port_write_to_ioeventfd,
			KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
		{"port_write", "port write, handled by userspace",
			in_guest(kvmpp_bench_port_write, BENCH_NO_DEVICE)},
		{"port_read", "port read, handled by userspace",
			in_guest(kvmpp_bench_port_read, BENCH_NO_DEVICE)},
		{"mmio_write", "MMIO write, handled by userspace",
			in_guest(kvmpp_bench_mmio_write)},
		{"mmio_read", "MMIO read, handled by userspace", in_guest(kvmpp_bench_mmio_read)},
		{"lapic_read", "LAPIC MMIO read in kernel", in_guest(kvmpp_bench_apic_read)},
		{"lapic_eoi", "LAPIC EOI by MMIO write", in_guest(kvmpp_bench_apic_eoi)},
		{"ept_fault_resident", "EPT fault, backing page resident", ept_fault(true)},
		{"ept_fault_unpopulated", "EPT fault, backing page not yet populated",
			ept_fault(false)},
		{"logged_write", "first write to a page that is logged", logged_write},
		{"get_dirty_page", "KVM_GET_DIRTY_LOG, for each dirty page", get_dirty_page},
		{"get_regs", "KVM_GET_REGS", get_regs},
		{"get_sregs", "KVM_GET_SREGS", get_sregs},
		{"set_sregs", "KVM_SET_SREGS", set_sregs},
		{"slot_add_delete", "add and delete one memory slot", slot_add_delete},
		{"vm_create_close", "KVM_CREATE_VM and close (waits included)",
			machine_create_close},
		{"vm_life", "VM + vCPU + slot + CPUID, then close", machine_life(false)},
		{"vm_life_run", "the same, with one guest instruction run", machine_life(true)},
	};
}

Measurement measure_one(Context &context, const Operation &operation)
{
	Measurement measurement{operation.key, operation.description, {}, {}};
	if (operation.extension && !context.system.extension(operation.extension)) {
		measurement.reason = std::string{"no "} + operation.extension_name;
		return measurement;
	}
	try {
		measurement.ticks = operation.measure(context);
	} catch (const Refusal &refusal) {
		measurement.reason = refusal.what();
		context.present.reset(); // whatever state it is in
	}
	return measurement;
}

} // namespace

std::vector<Measurement> measure_all(const lib::System &system,
	const std::vector<std::string> &only, const std::function<void(const Measurement &)> &done)
{
	const std::vector<Operation> all = operations();
	for (const std::string &key : only) {
		if (std::ranges::none_of(all, [&](const auto &each) { return each.key == key; }))
			throw Refusal{"there is no operation " + key};
	}
	Context context{system};
	std::vector<Measurement> measurements;
	for (const Operation &operation : all) {
		if (!only.empty() && std::ranges::find(only, operation.key) == only.end())
			continue;
		measurements.push_back(measure_one(context, operation));
		done(measurements.back());
	}
	return measurements;
}

} // namespace kvmpp::command
