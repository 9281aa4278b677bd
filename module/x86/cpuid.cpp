// SPDX-License-Identifier: GPL-2.0-only
#include "x86/cpuid.h"

#include <algorithm>
#include <asm/kvm_para.h>
#include "x86/registers.h"
#include "x86/xsave.h"

namespace kvmpp::x86
{
namespace
{

// CR4 bits that exist only with a CPUID feature.
struct Cr4Feature {
	u64 bits;
	Feature feature;
};

constexpr Cr4Feature cr4_features[] = {
	{X86_CR4_VME | X86_CR4_PVI, feature::vme},
	{X86_CR4_DE, feature::de},
	{X86_CR4_PSE, feature::pse},
	{X86_CR4_PAE, feature::pae},
	{X86_CR4_MCE, feature::mce},
	{X86_CR4_PGE, feature::pge},
	{X86_CR4_OSFXSR, feature::fxsr},
	{X86_CR4_OSXMMEXCPT, feature::sse},
	{X86_CR4_UMIP, feature::umip},
	{X86_CR4_FSGSBASE, feature::fsgsbase},
	{X86_CR4_PCIDE, feature::pcid},
	{X86_CR4_OSXSAVE, feature::xsave},
	{X86_CR4_SMEP, feature::smep},
	{X86_CR4_SMAP, feature::smap},
};

} // namespace

bool Cpuid::has_bit(const kvm_cpuid_entry2 *entry, Feature feature)
{
	if (!entry)
		return false;
	const u32 registers[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};
	return registers[static_cast<u8>(feature.in)] >> feature.position & 1;
}

Result<> Cpuid::set(std::span<const kvm_cpuid_entry2> entries)
{
	auto copy = TRY(host::Array<kvm_cpuid_entry2>::create(entries.size()));
	std::copy(entries.begin(), entries.end(), copy.begin());
	entries_ = std::move(copy);
	index();
	derive();
	return {};
}

bool Cpuid::same_as(const Cpuid &other) const
{
	const auto mine = entries(), others = other.entries();
	if (mine.size() != others.size())
		return false;
	// Without entries there is nothing to point at.
	return mine.empty() || __builtin_memcmp(mine.data(), others.data(), mine.size_bytes()) == 0;
}

void Cpuid::index()
{
	std::fill_n(index_.basic, indexed_leaves, none);
	std::fill_n(index_.hypervisor, indexed_leaves, none);
	std::fill_n(index_.extended, indexed_leaves, none);
	// Backwards, so that the first of several entries of a leaf stays.
	for (usize i = entries_.size(); i-- > 0;) {
		const u32 leaf = entries_[i].function;
		if (leaf < indexed_leaves)
			index_.basic[leaf] = i;
		else if (leaf - hypervisor_base < indexed_leaves)
			index_.hypervisor[leaf - hypervisor_base] = i;
		else if (leaf - extended_base < indexed_leaves)
			index_.extended[leaf - extended_base] = i;
	}
}

kvm_cpuid_entry2 *Cpuid::find_mutable(u32 leaf, u32 subleaf)
{
	return const_cast<kvm_cpuid_entry2 *>(find(leaf, subleaf));
}

// Beyond the highest leaf of its class the processor answers with the highest basic one.
CpuidRegisters Cpuid::substitute(u32 leaf, u32 subleaf) const
{
	const u32 highest = leaf >= extended_base ? max_extended_
			    : leaf >= hypervisor_base && find(hypervisor_base) ? ~u32{0}
									       : max_basic_;
	const auto *entry = leaf > highest ? find(max_basic_, subleaf) : nullptr;
	return entry ? registers_of(*entry) : CpuidRegisters{};
}

void Cpuid::derive()
{
	const auto *basic = find(0);
	const auto *extended = find(extended_base);
	max_basic_ = basic ? basic->eax : 0;
	max_extended_ = extended ? extended->eax : 0;

	const auto *sizes = max_extended_ >= 0x80000008 ? find(0x80000008) : nullptr;
	const unsigned width = sizes ? sizes->eax & 0xff : 36;
	physical_bits_ = width >= 32 && width <= 52 ? width : 36;

	cr4_allowed_ = X86_CR4_TSD | X86_CR4_PCE;
	for (const auto &[bits, feature] : cr4_features)
		if (has(feature))
			cr4_allowed_ |= bits;

	efer_allowed_ = (has(feature::syscall) ? efer::sce : 0) |
			(has(feature::long_mode) ? efer::lme | efer::lma : 0) |
			(has(feature::nx) ? efer::nx : 0);

	const auto *components = find(0xd);
	xcr0_allowed_ = components ? components->eax | u64{components->edx} << 32 : 0;

	const auto *paravirtual = find(KVM_CPUID_FEATURES);
	paravirtual_features_ = paravirtual ? paravirtual->eax : 0;
}

void Cpuid::follow_cr4(u64 cr4)
{
	if (auto *entry = find_mutable(1, 0)) {
		constexpr u32 osxsave = u32{1} << feature::osxsave.position;
		const bool on = cr4 & X86_CR4_OSXSAVE && has_bit(entry, feature::xsave);
		entry->ecx = on ? entry->ecx | osxsave : entry->ecx & ~osxsave;
	}
}

void Cpuid::follow_misc_enable(bool monitor)
{
	if (auto *entry = find_mutable(1, 0)) {
		constexpr u32 bit = u32{1} << feature::monitor.position;
		entry->ecx = monitor ? entry->ecx | bit : entry->ecx & ~bit;
	}
}

void Cpuid::follow_xcr0(u64 xcr0)
{
	if (auto *entry = find_mutable(0xd, 0))
		entry->ebx = xsave_size(*this, xcr0, false);
	if (auto *entry = find_mutable(0xd, 1); entry && entry->eax & (1 << 1 | 1 << 3))
		entry->ebx = xsave_size(*this, xcr0, true);
}

} // namespace kvmpp::x86
