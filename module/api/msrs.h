// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_MSRS and KVM_SET_MSRS, whose arrays are worked off until one entry fails.
#pragma once

#include <linux/kvm.h>
#include "api/user.h"

namespace kvmpp::api
{

// Calls use(entry) for each until it returns false, copies the entries out if asked, and returns how
// many there were before that. E2BIG, EFAULT, ENOMEM.
template <class Use>
Result<long> for_each_msr(unsigned long argument, bool copy_out, Use &&use)
{
	constexpr u32 limit = 256;
	const auto header = TRY(host::user_get<kvm_msrs>(Hva{argument}));
	if (header.nmsrs >= limit)
		return fail(E2BIG);
	const Hva place = items_of<kvm_msrs, kvm_msr_entry>(argument);
	auto entries = TRY(get_items<kvm_msr_entry>(place, header.nmsrs));
	long done = 0;
	for (kvm_msr_entry &entry : entries) {
		if (!use(entry))
			break;
		++done;
	}
	if (copy_out)
		TRY(host::user_write(place, entries.data(), entries.size() * sizeof(kvm_msr_entry)));
	return done;
}

} // namespace kvmpp::api
