// SPDX-License-Identifier: GPL-2.0-only
#include "api/msr_filter.h"

#include "host/user_memory.h"

namespace kvmpp::api
{
namespace
{

using machine::MsrFilter;

Result<MsrFilter::Range> copy_range(const kvm_msr_filter_range &range)
{
	constexpr u32 known = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	MsrFilter::Range copy;
	if (!range.nmsrs)
		return copy;
	const u64 bytes = (u64{range.nmsrs} + 63) / 64 * 8; // whole words of the VMM's
	if (range.flags & ~known || bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return fail(EINVAL);
	copy.allowed = TRY(host::Array<u8>::create(bytes));
	TRY(host::user_read(copy.allowed.data(), Hva{reinterpret_cast<u64>(range.bitmap)}, bytes));
	copy.first = range.base;
	copy.count = range.nmsrs;
	copy.flags = range.flags;
	return copy;
}

} // namespace

Result<> set_msr_filter(machine::Vm &vm, const kvm_msr_filter &request)
{
	if (request.flags & ~u32{KVM_MSR_FILTER_DEFAULT_DENY})
		return fail(EINVAL);
	auto filter = TRY(host::make<MsrFilter>());
	filter->default_allow = !(request.flags & KVM_MSR_FILTER_DEFAULT_DENY);
	bool empty = true;
	for (unsigned i = 0; i < filter->ranges.size(); ++i) {
		filter->ranges[i] = TRY(copy_range(request.ranges[i]));
		empty &= !request.ranges[i].nmsrs;
	}
	if (empty && !filter->default_allow)
		return fail(EINVAL);
	vm.set_msr_filter(std::move(filter), !empty);
	return {};
}

} // namespace kvmpp::api
