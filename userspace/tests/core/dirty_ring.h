// SPDX-License-Identifier: GPL-2.0-only
// A VMM's side of a vCPU's dirty ring. KVM API, 8.29.
#pragma once

#include <vector>
#include "tests/core/machine.h"

namespace kvmpp::tests
{

struct Written {
	u32 slot;
	u64 offset;
	bool operator==(const Written &) const = default;
};

inline void PrintTo(const Written &written, std::ostream *out)
{
	*out << "slot " << written.slot << " page " << written.offset;
}

inline long use_rings(const Vm &vm, u64 bytes, u32 capability = KVM_CAP_DIRTY_LOG_RING)
{
	kvm_enable_cap request{};
	request.cap = capability;
	request.args[0] = bytes;
	return vm.ioctl(KVM_ENABLE_CAP, &request);
}

class Ring {
public:
	explicit Ring(const Vcpu &vcpu, u64 bytes) : entries_{bytes / sizeof(kvm_dirty_gfn)}
	{
		for (u64 page = 0; page < bytes / page_size; ++page)
			pages_.push_back(static_cast<kvm_dirty_gfn *>(
				sim::mapped_page(vcpu.fd(), KVM_DIRTY_LOG_PAGE_OFFSET + page)));
	}
	kvm_dirty_gfn &at(u64 index) const
	{
		constexpr u64 of_page = page_size / sizeof(kvm_dirty_gfn);
		return pages_[index % entries_ / of_page][index % of_page];
	}
	u64 entries() const { return entries_; }
	// What is new, at most so many; it is marked as seen.
	std::vector<Written> harvest(u64 most = ~0ull)
	{
		std::vector<Written> result;
		for (; result.size() < most; ++next_) {
			kvm_dirty_gfn &entry = at(next_);
			if (__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
				break;
			result.push_back({entry.slot, entry.offset});
			__atomic_store_n(&entry.flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		}
		return result;
	}

private:
	u64 entries_, next_ = 0;
	std::vector<kvm_dirty_gfn *> pages_;
};

} // namespace kvmpp::tests
