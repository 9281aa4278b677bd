// SPDX-License-Identifier: GPL-2.0-only
#include "machine/hypervisor.h"

#include <bit>
#include "x86/msr.h"

namespace kvmpp::machine
{

namespace
{

// SDM vol. 4, IA32_ARCH_CAPABILITIES: bits that say what a processor is immune to, or how it helps.
constexpr u64 passed_capabilities = bit(0) /* RDCL_NO */ | bit(1) /* IBRS_ALL */ |
				    bit(3) /* SKIP_L1DFL_VMENTRY */ | bit(4) /* SSB_NO */ |
				    bit(5) /* MDS_NO */ | bit(6) /* IF_PSCHANGE_MC_NO */ |
				    bit(8) /* TAA_NO */ | bit(13) /* SBDR_SSDP_NO */ |
				    bit(14) /* FBSDP_NO */ | bit(15) /* PSDP_NO */ |
				    bit(17) /* FB_CLEAR */ | bit(19) /* RRSBA */ | bit(20) /* BHI_NO */ |
				    bit(24) /* PBRSB_NO */ | bit(26) /* GDS_NO */ | bit(27) /* RFDS_NO */ |
				    bit(28) /* RFDS_CLEAR */;

} // namespace

Result<host::Own<Hypervisor>> Hypervisor::create(vmx::Sharing sharing)
{
	auto result = TRY(host::make<Hypervisor>(TRY(vmx::Engine::create(sharing))));
	result->user_return_.find();
	// Reads as zero, or not at all, where there is none.
	u64 capabilities = 0;
	kvmpp_msr_read(x86::msr::arch_capabilities, &capabilities);
	result->arch_capabilities_ = capabilities & passed_capabilities;
	auto entries = TRY(host::Array<kvm_cpuid_entry2>::create(x86::Cpuid::max_entries));
	const usize count = TRY(x86::supported_cpuid(result->cpuid_host(), entries.span()));
	x86::Cpuid everything;
	TRY(everything.set(entries.span().first(count)));
	result->cr4_supported_ = everything.cr4_allowed();
	return result;
}

x86::CpuidHost Hypervisor::cpuid_host() const
{
	const u32 secondary = engine_->controls().secondary;
	return {.xcr0 = kvmpp_fpu_xcr0_supported(),
		.invpcid = (secondary & vmx::secondary::invpcid) != 0,
		.rdtscp = (secondary & vmx::secondary::rdtscp) != 0 && user_return_.tsc_aux >= 0,
		.xsaves = (secondary & vmx::secondary::xsaves) != 0,
		.reliable_tsc = kvmpp_tsc_reliable() != 0,
		.spec_ctrl = (engine_->mitigations() & KVMPP_SPEC_CTRL) != 0};
}

u16 Hypervisor::take_vpid()
{
	if (!(engine_->controls().secondary & vmx::secondary::vpid))
		return 0;
	return vpids_.with([](Vpids &vpids) -> u16 {
		for (usize i = 0; i < vpids.taken.size(); ++i) {
			if (vpids.taken[i] == ~u64{0})
				continue;
			const unsigned free = std::countr_one(vpids.taken[i]);
			vpids.taken[i] |= bit(free);
			return i * 64 + free;
		}
		return 0;
	});
}

void Hypervisor::give_vpid(u16 vpid)
{
	if (vpid)
		vpids_.with([&](Vpids &vpids) { vpids.taken[vpid / 64] &= ~bit(vpid % 64); });
}

u64 Hypervisor::vm_created()
{
	const Count now = count_.with([](Count &count) {
		++count.live;
		++count.total;
		return count;
	});
	kvmpp_uevent(1, now.live, now.total, kvmpp_process_id());
	return now.total;
}

void Hypervisor::vm_destroyed(s32 creator)
{
	const Count now = count_.with([](Count &count) {
		--count.live;
		return count;
	});
	kvmpp_uevent(0, now.live, now.total, creator);
}

} // namespace kvmpp::machine
