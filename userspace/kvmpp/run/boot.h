// SPDX-License-Identifier: GPL-2.0-only
// Guest memory as a kernel expects to find it, and the registers it is entered with.
#pragma once

#include "uapi/kvmpp.h"
#include <optional>
#include <span>
#include <string>
#include "kvmpp/run/kernel_image.h"
#include "lib/types.h"

namespace kvmpp::command
{

struct BootRequest {
	KernelImage kernel;
	std::optional<InputFile> initrd;
	std::string command_line;
	lib::u64 memory; // bytes
	unsigned cpus;
};

// How much of that memory lies below the device hole; the rest begins at 4 GiB.
lib::u64 low_memory(lib::u64 memory);

// Puts kernel, initrd, zero page, page tables and ACPI tables into the memory that begins at guest
// address 0. Throws a Refusal if something does not fit.
void load(std::span<std::byte> memory, const BootRequest &request);

// The state of the first processor at the kernel's 64-bit entry. `sregs` is that of a processor
// fresh from reset.
kvm_regs entry_regs();
kvm_sregs entry_sregs(kvm_sregs sregs);

} // namespace kvmpp::command
