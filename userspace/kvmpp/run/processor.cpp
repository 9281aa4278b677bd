// SPDX-License-Identifier: GPL-2.0-only
// CPUID (SDM vol. 2, "CPUID") and MSRs (SDM vol. 4) of the virtual processors.
#include "kvmpp/run/processor.h"

#include <bit>
#include "kvmpp/refusal.h"
#include "kvmpp/run/boot.h"

namespace kvmpp::command
{

using lib::Cpuid;
using lib::u32;

namespace
{

constexpr u32 set_bits(u32 word, unsigned high, unsigned low, u32 value)
{
	const u32 mask = (high - low == 31 ? ~0u : (1u << (high - low + 1)) - 1) << low;
	return (word & ~mask) | (value << low & mask);
}

// How many bits of an APIC ID tell the cores apart.
constexpr unsigned core_bits(unsigned count)
{
	return static_cast<unsigned>(std::bit_width(count - 1));
}

void set_features(Cpuid &cpuid, unsigned index, unsigned count, bool has_tsc_deadline)
{
	kvm_cpuid_entry2 &leaf = cpuid.at(1, 0, false);
	leaf.ebx = set_bits(leaf.ebx, 31, 24, index);
	leaf.ebx = set_bits(leaf.ebx, 23, 16, 1u << core_bits(count));
	leaf.edx = set_bits(leaf.edx, 28, 28, count > 1); // the count above is valid
	leaf.ecx = set_bits(leaf.ecx, 24, 24, has_tsc_deadline);
	leaf.ecx = set_bits(leaf.ecx, 31, 31, 1); // runs under a hypervisor
}

// Caches: the first two levels are a core's own, what lies above is everybody's.
void set_caches(Cpuid &cpuid, unsigned count)
{
	constexpr u32 most_subleaves = 8;
	for (u32 index = 0; index < most_subleaves; index++) {
		kvm_cpuid_entry2 *leaf = cpuid.find(4, index);
		if (!leaf || !(leaf->eax & 0x1f))
			return;
		const u32 level = leaf->eax >> 5 & 7;
		const u32 ids = 1u << core_bits(count);
		leaf->eax = set_bits(leaf->eax, 25, 14, level <= 2 ? 0 : ids - 1);
		leaf->eax = set_bits(leaf->eax, 31, 26, ids - 1);
	}
}

// Leaves 0xb and 0x1f: levels of topology, from the inside out, ended by one that is invalid.
void set_topology(Cpuid &cpuid, u32 function, unsigned index, unsigned count)
{
	constexpr u32 smt = 1, core = 2;
	const struct {
		u32 shift, processors, type;
	} levels[] = {{0, 1, smt}, {core_bits(count), count, core}, {0, 0, 0}};

	cpuid.remove(function);
	for (u32 level = 0; level < std::size(levels); level++) {
		kvm_cpuid_entry2 &leaf = cpuid.at(function, level, true);
		leaf.eax = levels[level].shift;
		leaf.ebx = levels[level].processors;
		leaf.ecx = levels[level].type << 8 | level;
		leaf.edx = index;
	}
}

} // namespace

Cpuid cpuid_of(Cpuid cpuid, unsigned index, unsigned count, bool has_tsc_deadline)
{
	set_features(cpuid, index, count, has_tsc_deadline);
	set_caches(cpuid, count);
	for (const u32 function : {0xbu, 0x1fu}) {
		if (cpuid.find(function))
			set_topology(cpuid, function, index, count);
	}
	return cpuid;
}

void prepare(const lib::VirtualCpu &vcpu, const Cpuid &cpuid, bool is_first)
{
	need(vcpu.set_cpuid(cpuid));

	// What firmware leaves behind. Without fast strings Linux does without `rep movsb`; without
	// a memory type it believes that nothing may be cached.
	constexpr u32 misc_enable = 0x1a0, mtrr_default_type = 0x2ff;
	constexpr lib::u64 fast_strings = 1 << 0, mtrrs_enabled = 1 << 11, write_back = 6;
	const kvm_msr_entry msrs[] = {
		{.index = misc_enable, .reserved = 0, .data = fast_strings},
		{.index = mtrr_default_type, .reserved = 0, .data = mtrrs_enabled | write_back},
	};
	need(vcpu.set_msrs(msrs));

	// The others wait for INIT and SIPI, which the kernel's LAPICs deliver.
	if (is_first) {
		need(vcpu.set_sregs(entry_sregs(need(vcpu.sregs()))));
		need(vcpu.set_regs(entry_regs()));
	}
}

} // namespace kvmpp::command
