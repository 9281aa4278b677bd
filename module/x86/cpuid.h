// SPDX-License-Identifier: GPL-2.0-only
// CPUID: what kvmpp can offer a guest on this host, and what one guest was given. SDM vol. 2, CPUID.
#pragma once

#include <span>
#include <linux/kvm.h>
#include "host/memory.h"
#include "host/result.h"
#include "host/types.h"

namespace kvmpp::x86
{

struct CpuidRegisters {
	u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

enum class CpuidRegister : u8 { eax, ebx, ecx, edx };

// One feature bit by its place in CPUID.
struct Feature {
	u32 leaf, subleaf;
	CpuidRegister in;
	u8 position;
};

namespace feature
{
using enum CpuidRegister;
inline constexpr Feature monitor{1, 0, ecx, 3}, vmx{1, 0, ecx, 5}, pcid{1, 0, ecx, 17},
	x2apic{1, 0, ecx, 21}, tsc_deadline{1, 0, ecx, 24}, xsave{1, 0, ecx, 26}, osxsave{1, 0, ecx, 27},
	hypervisor{1, 0, ecx, 31};
inline constexpr Feature vme{1, 0, edx, 1}, de{1, 0, edx, 2}, pse{1, 0, edx, 3}, pae{1, 0, edx, 6},
	mce{1, 0, edx, 7}, apic{1, 0, edx, 9}, mtrr{1, 0, edx, 12}, pge{1, 0, edx, 13}, fxsr{1, 0, edx, 24},
	sse{1, 0, edx, 25};
inline constexpr Feature fsgsbase{7, 0, ebx, 0}, tsc_adjust{7, 0, ebx, 1}, smep{7, 0, ebx, 7},
	invpcid{7, 0, ebx, 10}, smap{7, 0, ebx, 20}, umip{7, 0, ecx, 2}, rdpid{7, 0, ecx, 22},
	spec_ctrl{7, 0, edx, 26}, stibp{7, 0, edx, 27}, arch_capabilities{7, 0, edx, 29},
	ssbd{7, 0, edx, 31};
inline constexpr Feature xsaves{0xd, 1, eax, 3};
inline constexpr Feature syscall{0x80000001, 0, edx, 11}, nx{0x80000001, 0, edx, 20},
	pages_1g{0x80000001, 0, edx, 26}, rdtscp{0x80000001, 0, edx, 27},
	long_mode{0x80000001, 0, edx, 29};
inline constexpr Feature invariant_tsc{0x80000007, 0, edx, 8};
} // namespace feature

// What the hypervisor under the CPUID model can do, beyond the processor itself.
struct CpuidHost {
	u64 xcr0 = 0;		  // state components a guest may enable; 0: no XSAVE
	bool invpcid = false;	  // VMX controls that the instruction needs
	bool rdtscp = false;
	bool xsaves = false;
	bool reliable_tsc = false;
	bool spec_ctrl = false;	  // IA32_SPEC_CTRL is switched
};

// KVM_GET_SUPPORTED_CPUID: fills `entries` and returns how many there are. E2BIG: more than fit.
Result<usize> supported_cpuid(const CpuidHost &host, std::span<kvm_cpuid_entry2> entries);

// The CPUID of one guest, as its VMM has set it.
class Cpuid {
    public:
	static constexpr usize max_entries = 256;

	// Takes the entries over. ENOMEM.
	Result<> set(std::span<const kvm_cpuid_entry2> entries);
	std::span<const kvm_cpuid_entry2> entries() const { return entries_.span(); }

	bool same_as(const Cpuid &other) const;

	// What the guest's CPUID instruction returns, with Intel's rule for leaves out of range.
	CpuidRegisters query(u32 leaf, u32 subleaf) const
	{
		const kvm_cpuid_entry2 *entry = find(leaf, subleaf);
		return entry ? registers_of(*entry) : substitute(leaf, subleaf);
	}
	const kvm_cpuid_entry2 *find(u32 leaf, u32 subleaf = 0) const
	{
		for (usize i = first_of(leaf); i < entries_.size(); ++i) {
			const kvm_cpuid_entry2 &entry = entries_[i];
			if (entry.function == leaf && (!(entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
							      entry.index == subleaf))
				return &entry;
		}
		return nullptr;
	}
	bool has(Feature feature) const { return has_bit(find(feature.leaf, feature.subleaf), feature); }

	// Bits that follow the guest's own registers.
	void follow_cr4(u64 cr4);
	void follow_misc_enable(bool monitor);
	void follow_xcr0(u64 xcr0);

	unsigned physical_bits() const { return physical_bits_; }
	// CR4 bits that the guest may set, and EFER bits.
	u64 cr4_allowed() const { return cr4_allowed_; }
	u64 efer_allowed() const { return efer_allowed_; }
	u64 xcr0_allowed() const { return xcr0_allowed_; }
	// PV features (KVM_CPUID_FEATURES), 0 without the leaf.
	u32 paravirtual_features() const { return paravirtual_features_; }

    private:
	static bool has_bit(const kvm_cpuid_entry2 *entry, Feature feature);
	kvm_cpuid_entry2 *find_mutable(u32 leaf, u32 subleaf);
	void index();
	void derive();

	// For the leaves that guests ask for: the place of a leaf's first entry, by its low bits.
	static constexpr unsigned indexed_leaves = 32;
	static constexpr u16 none = 0xffff;
	struct Index {
		u16 basic[indexed_leaves], hypervisor[indexed_leaves], extended[indexed_leaves];
	};
	static constexpr u32 hypervisor_base = 0x40000000, extended_base = 0x80000000;
	u16 first_of(u32 leaf) const
	{
		if (leaf < indexed_leaves)
			return index_.basic[leaf];
		if (leaf - hypervisor_base < indexed_leaves)
			return index_.hypervisor[leaf - hypervisor_base];
		if (leaf - extended_base < indexed_leaves)
			return index_.extended[leaf - extended_base];
		return 0;
	}
	static CpuidRegisters registers_of(const kvm_cpuid_entry2 &entry)
	{
		return {entry.eax, entry.ebx, entry.ecx, entry.edx};
	}
	[[gnu::cold]] CpuidRegisters substitute(u32 leaf, u32 subleaf) const;

	host::Array<kvm_cpuid_entry2> entries_;
	Index index_{};
	u32 max_basic_ = 0, max_extended_ = 0;
	unsigned physical_bits_ = 36;
	u64 cr4_allowed_ = 0, efer_allowed_ = 0, xcr0_allowed_ = 0;
	u32 paravirtual_features_ = 0;
};

} // namespace kvmpp::x86
