// SPDX-License-Identifier: GPL-2.0-only
#include <algorithm>
#include "api/user.h"
#include "api/vcpu.h"
#include "run/resident.h"

namespace kvmpp::api
{
namespace
{

// The linear width decides which addresses are canonical.
bool widths_valid(std::span<const kvm_cpuid_entry2> entries)
{
	for (const kvm_cpuid_entry2 &entry : entries) {
		if (entry.function != 0x80000008)
			continue;
		const u32 linear = entry.eax >> 8 & 0xff;
		if (linear != 48 && linear != 57 && linear != 0)
			return false;
	}
	return true;
}

} // namespace

Result<> set_cpuid2(Vcpu &vcpu, unsigned long argument)
{
	const auto header = TRY(host::user_get<kvm_cpuid2>(Hva{argument}));
	if (header.nent > x86::Cpuid::max_entries)
		return fail(E2BIG);
	auto entries = TRY(get_items<kvm_cpuid_entry2>(
		items_of<kvm_cpuid2, kvm_cpuid_entry2>(argument), header.nent));
	// Its reserved words are none of the guest's.
	for (kvm_cpuid_entry2 &entry : entries)
		std::fill(std::begin(entry.padding), std::end(entry.padding), 0);
	if (!widths_valid(entries.span()))
		return fail(EINVAL);
	const auto resident = TRY(run::Resident::on(vcpu.residency));
	return vcpu.set_cpuid(entries.span(), resident.vmcs);
}

Result<> get_cpuid2(Vcpu &vcpu, unsigned long argument)
{
	auto header = TRY(host::user_get<kvm_cpuid2>(Hva{argument}));
	const auto entries = vcpu.cpuid.entries();
	const u32 room = header.nent;
	header.nent = entries.size();
	if (room < entries.size()) {
		TRY(host::user_put(Hva{argument}, header));
		return fail(E2BIG);
	}
	TRY(host::user_write(items_of<kvm_cpuid2, kvm_cpuid_entry2>(argument), entries.data(),
		entries.size_bytes()));
	return host::user_put(Hva{argument}, header);
}

} // namespace kvmpp::api
