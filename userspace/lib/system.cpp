// SPDX-License-Identifier: GPL-2.0-only
// The ioctls of the device itself.
#include "lib/system.h"

#include <fcntl.h>
#include "lib/flexible.h"

namespace kvmpp::lib
{

namespace
{

// Both MSR lists: the ABI tells the size by refusing a list that is too small.
Result<std::vector<u32>> msr_list(
	const FileDescriptor &file, unsigned long request, const char *name)
{
	Flexible<kvm_msr_list, u32> list{0};
	auto answer = file.control(request, name, list.get());
	if (!answer && answer.error().is(E2BIG)) {
		list = Flexible<kvm_msr_list, u32>{list->nmsrs};
		answer = file.control(request, name, list.get());
	}
	if (!answer)
		return std::unexpected(std::move(answer.error()));
	const auto indices = list.elements().first(list->nmsrs);
	return std::vector<u32>(indices.begin(), indices.end());
}

} // namespace

Result<System> System::open(const std::string &path)
{
	FileDescriptor file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
	if (!file)
		return failed(path);
	const int version = LIBKVMPP_TRY(LIBKVMPP_CONTROL(file, KVM_GET_API_VERSION, 0));
	if (version != KVM_API_VERSION)
		return std::unexpected{Error{path + ": KVM API version", EPROTO}};
	const int run_size = LIBKVMPP_TRY(LIBKVMPP_CONTROL(file, KVM_GET_VCPU_MMAP_SIZE, 0));
	return System{std::move(file), static_cast<std::size_t>(run_size)};
}

int System::extension(int capability) const
{
	return LIBKVMPP_CONTROL(file_, KVM_CHECK_EXTENSION, capability).value_or(0);
}

Result<Cpuid> System::supported_cpuid() const
{
	// Linux's own limit; a host that had more would answer E2BIG.
	constexpr u32 limit = 256;
	Flexible<kvm_cpuid2, kvm_cpuid_entry2> table{limit};
	LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_GET_SUPPORTED_CPUID, table.get()));
	const auto entries = table.elements().first(table->nent);
	return Cpuid{std::vector<kvm_cpuid_entry2>(entries.begin(), entries.end())};
}

Result<std::vector<u32>> System::msr_indices() const
{
	return msr_list(file_, KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST");
}

Result<std::vector<u32>> System::feature_msr_indices() const
{
	return msr_list(file_, KVM_GET_MSR_FEATURE_INDEX_LIST, "KVM_GET_MSR_FEATURE_INDEX_LIST");
}

Result<u64> System::feature_msr(u32 index) const
{
	Flexible<kvm_msrs, kvm_msr_entry> msrs{1};
	msrs.elements()[0].index = index;
	if (LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_GET_MSRS, msrs.get())) != 1)
		return std::unexpected{Error{"KVM_GET_MSRS of " + std::to_string(index), ENOENT}};
	return msrs.elements()[0].data;
}

Result<Machine> System::create_machine() const
{
	FileDescriptor machine{LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_CREATE_VM, 0))};
	return Machine{std::move(machine), run_size_};
}

} // namespace kvmpp::lib
