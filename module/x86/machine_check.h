// SPDX-License-Identifier: GPL-2.0-only
// The machine-check registers of one processor, as far as a VMM uses them to hand a memory error on
// to its guest. SDM vol. 3, chapter 16; KVM API, KVM_X86_SETUP_MCE and KVM_X86_SET_MCE.
// Belongs to the vCPU's thread.
#pragma once

#include <array>
#include <optional>
#include <linux/kvm.h>
#include "host/result.h"
#include "host/types.h"

namespace kvmpp::x86
{

class MachineCheck {
    public:
	static constexpr unsigned max_banks = 32;
	// IA32_MCG_CAP: what a VMM may choose besides the number of banks.
	static constexpr u64 has_control = bit(8), has_recovery = bit(24);
	static constexpr u64 supported = has_control | has_recovery;

	// EINVAL: no bank or too many, or a capability that there is not.
	Result<> set_up(u64 capabilities);

	// Whether the MSR is one of a bank; those of a bank that is not there fault.
	static bool is_bank(u32 index);
	std::optional<u64> read(u32 index) const;
	bool write(u32 index, u64 value, bool by_vmm);

	// What an error that the VMM reports leads to.
	enum class Effect : u8 {
		logged,	   // in its bank, or dropped as the registers demand
		exception, // the guest is to get #MC
		shutdown,  // another is being handled, or #MC is off (CR4.MCE)
	};
	// EINVAL: no such bank, or not a valid status.
	Result<Effect> inject(const kvm_x86_mce &error, bool enabled);

    private:
	struct Bank {
		u64 control = ~u64{0}, status = 0, address = 0, misc = 0;
		constexpr bool operator==(const Bank &) const = default;
	};
	unsigned count() const { return capabilities_ & 0xff; }
	// The register of a bank that an index names; nullptr: there is no such bank.
	template <class Self>
	static auto *bank_register(Self &self, u32 index);

	u64 capabilities_ = 0, status_ = 0, control_ = 0;
	std::array<Bank, max_banks> banks_{};
};

} // namespace kvmpp::x86
