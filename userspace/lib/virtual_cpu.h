// SPDX-License-Identifier: GPL-2.0-only
// A virtual processor: its registers, and running it.
#pragma once

#include "uapi/kvmpp.h"
#include <span>
#include "lib/cpuid.h"
#include "lib/exit.h"
#include "lib/mapping.h"

namespace kvmpp::lib
{

class VirtualCpu {
public:
	const FileDescriptor &file() const { return file_; }
	// The page shared with the kernel, for what has no method here.
	kvm_run &shared() const { return *reinterpret_cast<kvm_run *>(run_.data()); }

	// Runs the guest until something is to be done for it. One thread at a time.
	Result<Exit> run() const;

	// From any thread or a signal handler: the next run(), and with a signal the present one,
	// returns Interrupted at once, until the request is taken back.
	void request_exit(bool wanted = true) const
	{
		__atomic_store_n(&shared().immediate_exit, wanted, __ATOMIC_RELAXED);
	}

	Result<kvm_regs> regs() const;
	Result<> set_regs(const kvm_regs &regs) const;
	Result<kvm_sregs> sregs() const;
	Result<> set_sregs(const kvm_sregs &sregs) const;
	Result<kvm_lapic_state> lapic() const;
	Result<> set_lapic(const kvm_lapic_state &lapic) const;
	Result<> set_cpuid(const Cpuid &cpuid) const;
	Result<> set_msrs(std::span<const kvm_msr_entry> msrs) const;
	Result<u64> msr(u32 index) const;

private:
	friend class Machine;
	VirtualCpu(FileDescriptor file, Mapping run) : file_{std::move(file)}, run_{std::move(run)}
	{}

	FileDescriptor file_;
	Mapping run_;
};

} // namespace kvmpp::lib
