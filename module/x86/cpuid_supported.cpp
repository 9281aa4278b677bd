// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_SUPPORTED_CPUID: the host's CPUID without what a guest of kvmpp cannot use, and with what
// kvmpp adds.
#include <algorithm>
#include <asm/kvm_para.h>
#include "host/seam.h"
#include "x86/cpuid.h"
#include "x86/xsave.h"

namespace kvmpp::x86
{
namespace
{

// The bits of a register that pass from the host to a guest, by the features' names in the SDM.
template <class... Position>
constexpr u32 set_of(Position... positions)
{
	return ((u32{1} << positions) | ...);
}

namespace pass
{
constexpr u32 leaf1_ecx = set_of(0 /* SSE3 */, 1 /* PCLMULQDQ */, 9 /* SSSE3 */, 12 /* FMA */,
	13 /* CMPXCHG16B */, 17 /* PCID */, 19 /* SSE4.1 */, 20 /* SSE4.2 */, 22 /* MOVBE */,
	23 /* POPCNT */, 25 /* AES */, 26 /* XSAVE */, 28 /* AVX */, 29 /* F16C */, 30 /* RDRAND */);
constexpr u32 leaf1_edx = set_of(0 /* FPU */, 1 /* VME */, 2 /* DE */, 3 /* PSE */, 4 /* TSC */,
	5 /* MSR */, 6 /* PAE */, 7 /* MCE */, 8 /* CX8 */, 9 /* APIC */, 11 /* SEP */, 12 /* MTRR */,
	13 /* PGE */, 14 /* MCA */, 15 /* CMOV */, 16 /* PAT */, 17 /* PSE-36 */, 19 /* CLFSH */,
	23 /* MMX */, 24 /* FXSR */, 25 /* SSE */, 26 /* SSE2 */, 27 /* SS */);
constexpr u32 leaf7_ebx = set_of(0 /* FSGSBASE */, 3 /* BMI1 */, 5 /* AVX2 */, 7 /* SMEP */, 8 /* BMI2 */,
	9 /* ERMS */, 10 /* INVPCID */, 18 /* RDSEED */, 19 /* ADX */, 20 /* SMAP */,
	23 /* CLFLUSHOPT */, 24 /* CLWB */, 29 /* SHA */);
constexpr u32 leaf7_ebx_avx512 = set_of(16 /* F */, 17 /* DQ */, 21 /* IFMA */, 26 /* PF */, 27 /* ER */,
	28 /* CD */, 30 /* BW */, 31 /* VL */);
constexpr u32 leaf7_ecx = set_of(2 /* UMIP */, 8 /* GFNI */, 9 /* VAES */, 10 /* VPCLMULQDQ */,
	22 /* RDPID */, 27 /* MOVDIRI */, 28 /* MOVDIR64B */);
constexpr u32 leaf7_ecx_avx512 = set_of(1 /* VBMI */, 6 /* VBMI2 */, 11 /* VNNI */, 12 /* BITALG */,
	14 /* VPOPCNTDQ */);
constexpr u32 leaf7_edx = set_of(4 /* FSRM */, 10 /* MD_CLEAR */, 14 /* SERIALIZE */, 26 /* SPEC_CTRL */,
	27 /* STIBP */, 31 /* SSBD */);
constexpr u32 leaf7_edx_avx512 = set_of(2 /* 4VNNIW */, 3 /* 4FMAPS */, 8 /* VP2INTERSECT */);
constexpr u32 leafd1_eax = set_of(0 /* XSAVEOPT */, 1 /* XSAVEC */, 2 /* XGETBV 1 */, 3 /* XSAVES */);
constexpr u32 extended1_ecx = set_of(0 /* LAHF */, 5 /* LZCNT */, 8 /* PREFETCHW */);
constexpr u32 extended1_edx = set_of(11 /* SYSCALL */, 20 /* NX */, 26 /* 1 GiB pages */, 27 /* RDTSCP */,
	29 /* long mode */);
} // namespace pass

constexpr u32 bit_of(Feature feature)
{
	return u32{1} << feature.position;
}

constexpr u32 when(bool condition, u32 bits)
{
	return condition ? bits : 0;
}

// Collects entries up to the room that is there.
class Writer {
    public:
	explicit Writer(std::span<kvm_cpuid_entry2> room) : room_{room} {}

	// Appends the host's leaf and returns it for editing; nullptr when there is no room.
	kvm_cpuid_entry2 *host(u32 leaf, u32 subleaf = 0, u32 flags = 0)
	{
		u32 registers[4];
		kvmpp_cpuid(leaf, subleaf, registers);
		return append({.function = leaf,
			.index = subleaf,
			.flags = flags,
			.eax = registers[0],
			.ebx = registers[1],
			.ecx = registers[2],
			.edx = registers[3],
			.padding = {}});
	}
	kvm_cpuid_entry2 *append(const kvm_cpuid_entry2 &entry)
	{
		if (count_ == room_.size()) {
			overflow_ = true;
			return nullptr;
		}
		room_[count_] = entry;
		return &room_[count_++];
	}
	void zero(u32 leaf) { append({.function = leaf, .index = 0, .flags = 0, .eax = 0, .ebx = 0, .ecx = 0, .edx = 0, .padding = {}}); }
	bool overflow() const { return overflow_; }
	usize count() const { return count_; }

    private:
	std::span<kvm_cpuid_entry2> room_;
	usize count_ = 0;
	bool overflow_ = false;
};

void features(Writer &writer, const CpuidHost &host)
{
	if (auto *entry = writer.host(1)) {
		u32 pass = pass::leaf1_ecx;
		if (!(host.xcr0 & xcr0::ymm))
			pass &= ~set_of(12, 28, 29); // FMA, AVX and F16C need the upper halves
		if (!host.xcr0)
			pass &= ~bit_of(feature::xsave);
		entry->ecx = (entry->ecx & pass) | bit_of(feature::x2apic) | bit_of(feature::hypervisor);
		entry->edx &= pass::leaf1_edx;
		entry->ebx &= ~bits(31, 24); // the initial APIC ID is the VMM's to give
	}
}

void caches(Writer &writer)
{
	for (u32 subleaf = 0; subleaf < 8; ++subleaf) {
		auto *entry = writer.host(4, subleaf, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
		constexpr u32 type = 0x1f;
		if (!entry || !(entry->eax & type))
			break;
	}
}

void extended_features(Writer &writer, const CpuidHost &host)
{
	auto *entry = writer.host(7, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	if (!entry)
		return;
	const bool avx512 = host.xcr0 & xcr0::avx512;
	const bool ymm = host.xcr0 & xcr0::ymm;
	entry->eax = 0;
	entry->ebx &= pass::leaf7_ebx | when(avx512, pass::leaf7_ebx_avx512);
	entry->ebx |= bit_of(feature::tsc_adjust); // emulated
	if (!host.invpcid)
		entry->ebx &= ~bit_of(feature::invpcid);
	if (!ymm)
		entry->ebx &= ~set_of(5 /* AVX2 */);
	entry->ecx &= pass::leaf7_ecx | when(avx512, pass::leaf7_ecx_avx512);
	if (!ymm)
		entry->ecx &= ~set_of(9 /* VAES */, 10 /* VPCLMULQDQ */);
	if (!host.rdtscp)
		entry->ecx &= ~bit_of(feature::rdpid);
	entry->edx &= pass::leaf7_edx | when(avx512, pass::leaf7_edx_avx512);
	if (!host.spec_ctrl)
		entry->edx &= ~(bit_of(feature::spec_ctrl) | bit_of(feature::stibp) | bit_of(feature::ssbd));
	entry->edx |= bit_of(feature::arch_capabilities); // emulated
}

void extended_state(Writer &writer, const CpuidHost &host)
{
	if (!host.xcr0) {
		writer.zero(0xd);
		return;
	}
	constexpr u32 flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	u32 size = xsave_base_size;
	auto *main = writer.host(0xd, 0, flags);
	auto *more = writer.host(0xd, 1, flags);
	if (!main || !more)
		return;
	more->eax &= host.xsaves ? pass::leafd1_eax : pass::leafd1_eax & ~bit_of(feature::xsaves);
	more->ebx = more->ecx = more->edx = 0; // no supervisor state
	for (u32 component = 2; component < 63; ++component) {
		if (!(host.xcr0 >> component & 1))
			continue;
		const auto *entry = writer.host(0xd, component, flags);
		if (!entry)
			return;
		if (entry->ebx + entry->eax > size)
			size = entry->ebx + entry->eax;
	}
	main->eax = static_cast<u32>(host.xcr0);
	main->edx = static_cast<u32>(host.xcr0 >> 32);
	main->ebx = main->ecx = size;
}

void basic(Writer &writer, const CpuidHost &host)
{
	u32 registers[4];
	kvmpp_cpuid(0, 0, registers);
	const u32 highest = registers[0] < 0x16 ? registers[0] : 0x16;
	if (auto *entry = writer.host(0))
		entry->eax = highest;
	features(writer, host);
	for (u32 leaf = 2; leaf <= highest; ++leaf) {
		switch (leaf) {
		case 2: writer.host(leaf); break;
		case 4: caches(writer); break;
		case 6:
			if (auto *entry = writer.host(leaf)) {
				constexpr u32 apic_timer_always_runs = 1 << 2;
				entry->eax = apic_timer_always_runs;
				entry->ebx = entry->ecx = entry->edx = 0;
			}
			break;
		case 7: extended_features(writer, host); break;
		case 0xd: extended_state(writer, host); break;
		// MONITOR, performance monitoring, topology (the VMM's to give), frequencies and
		// the rest: nothing of the host's.
		default: writer.zero(leaf); break;
		}
	}
}

void paravirtual(Writer &writer, const CpuidHost &host)
{
	// "KVMKVMKVM" in EBX, ECX, EDX: what guests look for.
	writer.append({.function = KVM_CPUID_SIGNATURE,
		.index = 0,
		.flags = 0,
		.eax = KVM_CPUID_FEATURES,
		.ebx = 0x4b4d564b,
		.ecx = 0x564b4d56,
		.edx = 0x4d,
		.padding = {}});
	const u32 clocks = 1 << KVM_FEATURE_CLOCKSOURCE | 1 << KVM_FEATURE_CLOCKSOURCE2 |
			   when(host.reliable_tsc, 1 << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
	writer.append({.function = KVM_CPUID_FEATURES,
		.index = 0,
		.flags = 0,
		.eax = clocks | 1 << KVM_FEATURE_NOP_IO_DELAY | 1 << KVM_FEATURE_PV_UNHALT |
		       1 << KVM_FEATURE_PV_EOI | 1 << KVM_FEATURE_POLL_CONTROL | 1 << KVM_FEATURE_PV_SEND_IPI | 1 << KVM_FEATURE_STEAL_TIME |
		       1 << KVM_FEATURE_PV_TLB_FLUSH | 1 << KVM_FEATURE_PV_SCHED_YIELD |
		       1 << KVM_FEATURE_ASYNC_PF | 1 << KVM_FEATURE_ASYNC_PF_INT,
		.ebx = 0,
		.ecx = 0,
		.edx = 0,
		.padding = {}});
}

void extended(Writer &writer, const CpuidHost &host)
{
	u32 registers[4];
	kvmpp_cpuid(0x80000000, 0, registers);
	const u32 highest = registers[0] < 0x80000008 ? registers[0] : 0x80000008;
	if (highest < 0x80000000)
		return;
	if (auto *entry = writer.host(0x80000000))
		entry->eax = highest;
	for (u32 leaf = 0x80000001; leaf <= highest; ++leaf) {
		auto *entry = writer.host(leaf);
		if (!entry)
			return;
		switch (leaf) {
		case 0x80000001:
			entry->ecx &= pass::extended1_ecx;
			entry->edx &= pass::extended1_edx;
			if (!host.rdtscp)
				entry->edx &= ~bit_of(feature::rdtscp);
			break;
		case 0x80000007:
			entry->eax = entry->ebx = entry->ecx = 0;
			entry->edx &= when(host.reliable_tsc, bit_of(feature::invariant_tsc));
			break;
		case 0x80000008:
			// Four levels of EPT translate 48 bits, and so do the guest's tables.
			entry->eax = std::min(entry->eax & 0xff, 48u) |
				     std::min(entry->eax >> 8 & 0xff, 48u) << 8;
			entry->ebx = entry->ecx = entry->edx = 0;
			break;
		}
	}
}

} // namespace

Result<usize> supported_cpuid(const CpuidHost &host, std::span<kvm_cpuid_entry2> entries)
{
	Writer writer{entries};
	basic(writer, host);
	paravirtual(writer, host);
	extended(writer, host);
	if (writer.overflow())
		return fail(E2BIG);
	return writer.count();
}

} // namespace kvmpp::x86
