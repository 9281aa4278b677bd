// SPDX-License-Identifier: GPL-2.0-only
// Descriptors for VMs and vCPUs: made first, visible last.
#pragma once

#include <utility>
#include "host/result.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::host
{

// A file with a reserved descriptor that nobody can use yet. Dropped, it leaves no trace and does not
// release its owner.
class NewFile {
    public:
	NewFile(NewFile &&other) : file_{std::exchange(other.file_, {-1, nullptr})} {}
	~NewFile()
	{
		if (file_.file)
			kvmpp_file_abandon(&file_);
	}

	// Named kvm-vm, and kvm-vcpu:ID, as tools of KVM expect. EMFILE, ENFILE, ENOMEM.
	static Result<NewFile> for_vm(void *vm)
	{
		NewFile file;
		TRY(result_of(kvmpp_file_prepare_vm(&file.file_, vm)));
		return file;
	}
	static Result<NewFile> for_vcpu(void *vcpu, u32 id)
	{
		NewFile file;
		TRY(result_of(kvmpp_file_prepare_vcpu(&file.file_, vcpu, id)));
		return file;
	}

	static Result<NewFile> for_statistics(const char *name, void *statistics)
	{
		NewFile file;
		TRY(result_of(kvmpp_file_prepare_statistics(&file.file_, name, statistics)));
		return file;
	}

	// The descriptor. From now on its owner may be gone at any time: another thread may close it.
	int install()
	{
		const kvmpp_new_file file = std::exchange(file_, {-1, nullptr});
		kvmpp_file_install(&file);
		return file.fd;
	}

    private:
	NewFile() = default;

	kvmpp_new_file file_{-1, nullptr};
};

} // namespace kvmpp::host
