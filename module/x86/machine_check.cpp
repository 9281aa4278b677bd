// SPDX-License-Identifier: GPL-2.0-only
#include "x86/machine_check.h"

#include "host/speculation.h"
#include "x86/msr.h"

namespace kvmpp::x86
{
namespace
{

// IA32_MCi_STATUS and IA32_MCG_STATUS.
constexpr u64 valid = bit(63), overflow = bit(62), uncorrected = bit(61);
constexpr u64 in_progress = bit(2);
constexpr u64 all = ~u64{0};

// The four registers of a bank follow one another.
enum BankRegister : u32 { control, status, address, misc };

constexpr u32 offset_of(u32 index)
{
	return index - msr::mc0_ctl;
}

} // namespace

Result<> MachineCheck::set_up(u64 capabilities)
{
	const u64 wanted = capabilities & 0xff;
	if (!wanted || wanted > max_banks || capabilities & ~(supported | 0xff))
		return fail(EINVAL);
	*this = {};
	capabilities_ = capabilities;
	control_ = capabilities & has_control ? all : 0;
	return {};
}

bool MachineCheck::is_bank(u32 index)
{
	return index >= msr::mc0_ctl && offset_of(index) < 4 * max_banks;
}

template <class Self>
auto *MachineCheck::bank_register(Self &self, u32 index)
{
	const u32 number = offset_of(index) / 4;
	auto &bank = self.banks_[clamped(number, max_banks)];
	decltype(&bank.control) place = nullptr;
	if (number >= self.count())
		return place;
	switch (offset_of(index) % 4) {
	case control: place = &bank.control; break;
	case status: place = &bank.status; break;
	case address: place = &bank.address; break;
	default: place = &bank.misc; break;
	}
	return place;
}

std::optional<u64> MachineCheck::read(u32 index) const
{
	switch (index) {
	case msr::mcg_cap: return capabilities_;
	case msr::mcg_status: return status_;
	case msr::mcg_ctl: return control_;
	}
	const u64 *value = bank_register(*this, index);
	return value ? std::optional{*value} : std::nullopt;
}

bool MachineCheck::write(u32 index, u64 value, bool by_vmm)
{
	switch (index) {
	case msr::mcg_cap: return false;
	case msr::mcg_status: status_ = value; return true;
	case msr::mcg_ctl:
		// A processor without the register faults; a VMM that restores its zero does no harm.
		if (!(capabilities_ & has_control))
			return by_vmm && value == 0;
		if (value != 0 && value != all)
			return false;
		control_ = value;
		return true;
	}
	u64 *place = bank_register(*this, index);
	if (!place)
		return false;
	// A guest may only clear a status. Control bits are all on or all off, as hardware has them,
	// except that Linux leaves one bit of bank 4 alone.
	if (!by_vmm && offset_of(index) % 4 == status && value)
		return false;
	if (offset_of(index) % 4 == control && value && (value | bit(10)) != all)
		return false;
	*place = value;
	return true;
}

Result<MachineCheck::Effect> MachineCheck::inject(const kvm_x86_mce &error, bool enabled)
{
	if (error.bank >= count() || !(error.status & valid))
		return fail(EINVAL);
	Bank &bank = banks_[clamped(error.bank, max_banks)];
	const u64 overwritten = bank.status & valid ? overflow : 0;

	if (error.status & uncorrected) {
		const bool reported = (!(capabilities_ & has_control) || control_ == all) && bank.control == all;
		if (!reported)
			return Effect::logged;
		if (status_ & in_progress || !enabled)
			return Effect::shutdown;
		status_ = error.mcg_status;
	} else if (bank.status & valid && bank.status & uncorrected) {
		// The worse error stays.
		bank.status |= overflow;
		return Effect::logged;
	}
	bank.address = error.addr;
	bank.misc = error.misc;
	bank.status = error.status | overwritten;
	return error.status & uncorrected ? Effect::exception : Effect::logged;
}

} // namespace kvmpp::x86
