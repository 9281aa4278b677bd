// SPDX-License-Identifier: GPL-2.0-only
// The device: what this host's KVM can do, and where machines come from.
#pragma once

#include <string>
#include <vector>
#include "lib/cpuid.h"
#include "lib/machine.h"

namespace kvmpp::lib
{

class System {
public:
	// /dev/kvm, /dev/kvmpp or whatever else speaks version 12 of the ABI.
	static Result<System> open(const std::string &path);

	const FileDescriptor &file() const { return file_; }

	// 0 when the extension is absent; otherwise what the ABI says its number means.
	int extension(int capability) const;

	Result<Cpuid> supported_cpuid() const;
	Result<std::vector<u32>> msr_indices() const;
	Result<std::vector<u32>> feature_msr_indices() const;
	Result<u64> feature_msr(u32 index) const;

	Result<Machine> create_machine() const;

private:
	System(FileDescriptor file, std::size_t run_size)
		: file_{std::move(file)}, run_size_{run_size}
	{}

	FileDescriptor file_;
	std::size_t run_size_;
};

} // namespace kvmpp::lib
