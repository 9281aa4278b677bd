// SPDX-License-Identifier: GPL-2.0-only
// A virtual machine: its memory slots, interrupt controllers and event descriptors.
#pragma once

#include "uapi/kvmpp.h"
#include <map>
#include "lib/mapping.h"
#include "lib/virtual_cpu.h"

namespace kvmpp::lib
{

class Machine {
public:
	const FileDescriptor &file() const { return file_; }

	// The machine owns what backs a slot from here on; replacing a slot is an error. `flags`
	// are KVM_MEM_*.
	Result<> add_memory(u32 slot, u64 guest_address, Mapping memory, u32 flags = 0);
	Result<> remove_memory(u32 slot);

	// Places for what the processor needs in guest memory when it runs real-mode code: three
	// pages and one page, which no slot may cover.
	Result<> set_tss_address(u64 guest_address) const;
	Result<> set_identity_map_address(u64 guest_address) const;

	// PIC, IOAPIC and a LAPIC in each vCPU; before the first vCPU.
	Result<> create_irqchip() const;
	Result<> create_pit(u32 flags = 0) const;
	Result<> set_irq_line(u32 gsi, bool level) const;

	Result<> assign(const kvm_ioeventfd &event) const;
	Result<> assign(const kvm_irqfd &event) const;

	Result<VirtualCpu> create_vcpu(u32 id) const;

private:
	friend class System;
	Machine(FileDescriptor file, std::size_t run_size)
		: file_{std::move(file)}, run_size_{run_size}
	{}

	Result<> set_slot(
		u32 slot, u64 guest_address, std::span<std::byte> memory, u32 flags) const;

	// First, so that it is destroyed last: the machine goes before the memory behind it.
	std::map<u32, Mapping> memory_;
	FileDescriptor file_;
	std::size_t run_size_;
};

} // namespace kvmpp::lib
