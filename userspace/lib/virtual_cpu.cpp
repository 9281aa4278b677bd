// SPDX-License-Identifier: GPL-2.0-only
// The ioctls of a virtual processor, and its exits made typed.
#include "lib/virtual_cpu.h"

#include <algorithm>
#include "lib/flexible.h"

namespace kvmpp::lib
{

namespace
{

template <class State>
Result<State> get(const FileDescriptor &file, unsigned long request, const char *name)
{
	State state;
	LIBKVMPP_TRY(file.control(request, name, &state));
	return state;
}

template <class State>
Result<> set(
	const FileDescriptor &file, unsigned long request, const char *name, const State *state)
{
	LIBKVMPP_TRY(file.control(request, name, state));
	return {};
}

exits::Io io_exit(kvm_run &run)
{
	auto *const start = reinterpret_cast<std::byte *>(&run) + run.io.data_offset;
	return {
		.port = run.io.port,
		.size = run.io.size,
		.write = run.io.direction == KVM_EXIT_IO_OUT,
		.data = {start, std::size_t{run.io.size} * run.io.count},
	};
}

exits::Mmio mmio_exit(kvm_run &run)
{
	const auto bytes = std::as_writable_bytes(std::span{run.mmio.data});
	return {
		.address = run.mmio.phys_addr,
		.write = run.mmio.is_write != 0,
		.data = bytes.first(std::min<std::size_t>(run.mmio.len, bytes.size())),
	};
}

exits::InternalError internal_error(const kvm_run &run)
{
	const std::span<const u64> data{run.internal.data};
	return {
		.suberror = run.internal.suberror,
		.data = data.first(std::min<std::size_t>(run.internal.ndata, data.size())),
	};
}

Exit typed_exit(kvm_run &run)
{
	switch (run.exit_reason) {
	case KVM_EXIT_IO: return io_exit(run);
	case KVM_EXIT_MMIO: return mmio_exit(run);
	case KVM_EXIT_HLT: return exits::Halt{};
	case KVM_EXIT_SHUTDOWN: return exits::Shutdown{};
	case KVM_EXIT_IRQ_WINDOW_OPEN: return exits::IrqWindowOpen{};
	case KVM_EXIT_INTR: return exits::Interrupted{};
	case KVM_EXIT_SYSTEM_EVENT: return exits::SystemEvent{run.system_event.type};
	case KVM_EXIT_IOAPIC_EOI: return exits::IoapicEoi{run.eoi.vector};
	case KVM_EXIT_DEBUG: return exits::Debug{run.debug.arch.exception, run.debug.arch.pc};
	case KVM_EXIT_FAIL_ENTRY:
		return exits::FailedEntry{run.fail_entry.hardware_entry_failure_reason};
	case KVM_EXIT_INTERNAL_ERROR: return internal_error(run);
	default: return exits::Other{run.exit_reason};
	}
}

} // namespace

Result<Exit> VirtualCpu::run() const
{
	if (::ioctl(file_.number(), KVM_RUN, 0) < 0) {
		// EAGAIN: a processor that waited to be started has been.
		if (errno == EINTR || errno == EAGAIN)
			return exits::Interrupted{};
		return failed("KVM_RUN");
	}
	return typed_exit(shared());
}

Result<kvm_regs> VirtualCpu::regs() const
{
	return get<kvm_regs>(file_, KVM_GET_REGS, "KVM_GET_REGS");
}

Result<> VirtualCpu::set_regs(const kvm_regs &regs) const
{
	return set(file_, KVM_SET_REGS, "KVM_SET_REGS", &regs);
}

Result<kvm_sregs> VirtualCpu::sregs() const
{
	return get<kvm_sregs>(file_, KVM_GET_SREGS, "KVM_GET_SREGS");
}

Result<> VirtualCpu::set_sregs(const kvm_sregs &sregs) const
{
	return set(file_, KVM_SET_SREGS, "KVM_SET_SREGS", &sregs);
}

Result<kvm_lapic_state> VirtualCpu::lapic() const
{
	return get<kvm_lapic_state>(file_, KVM_GET_LAPIC, "KVM_GET_LAPIC");
}

Result<> VirtualCpu::set_lapic(const kvm_lapic_state &lapic) const
{
	return set(file_, KVM_SET_LAPIC, "KVM_SET_LAPIC", &lapic);
}

Result<> VirtualCpu::set_cpuid(const Cpuid &cpuid) const
{
	const auto &entries = cpuid.entries();
	Flexible<kvm_cpuid2, kvm_cpuid_entry2> table{entries.size()};
	std::ranges::copy(entries, table.elements().begin());
	return set(file_, KVM_SET_CPUID2, "KVM_SET_CPUID2", table.get());
}

Result<> VirtualCpu::set_msrs(std::span<const kvm_msr_entry> msrs) const
{
	Flexible<kvm_msrs, kvm_msr_entry> table{msrs.size()};
	std::ranges::copy(msrs, table.elements().begin());
	// The answer counts those that were set: it names the first that was not.
	const int count = LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_SET_MSRS, table.get()));
	if (static_cast<std::size_t>(count) < msrs.size()) {
		const u32 index = msrs[static_cast<std::size_t>(count)].index;
		return std::unexpected{Error{"KVM_SET_MSRS of " + std::to_string(index), EINVAL}};
	}
	return {};
}

Result<u64> VirtualCpu::msr(u32 index) const
{
	Flexible<kvm_msrs, kvm_msr_entry> table{1};
	table.elements()[0].index = index;
	if (LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_GET_MSRS, table.get())) != 1)
		return std::unexpected{Error{"KVM_GET_MSRS of " + std::to_string(index), EINVAL}};
	return table.elements()[0].data;
}

} // namespace kvmpp::lib
