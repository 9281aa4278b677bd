// SPDX-License-Identifier: GPL-2.0-only
#include "x86/emulator/plain_move.h"
#include "x86/emulator/emulator.h"
#include "x86/emulator/flags.h"

namespace kvmpp::x86::emulator
{

namespace
{

constexpr u8 rex_w = 8, rex_r = 4, rex_x = 2, rex_b = 1;

} // namespace

PlainMove::PlainMove(Executed &executed, Registers &registers)
	: executed_{executed}, registers_{registers}
{
	// With RFLAGS.AC an access may have to be aligned; CR4.LA57 may widen what is canonical.
	applies_ = decode() && at_ <= executed.byte_count && !(registers.rflags & flag::ac) &&
		   static_cast<u64>(sign_extend(address_, 6)) == address_ &&
		   static_cast<u64>(sign_extend(address_ + 7, 6)) == address_ + 7;
}

// Bytes beyond what was fetched are whatever they are: `at_` tells in the end. The buffer is
// longer than any form here.
s64 PlainMove::take(unsigned size)
{
	u64 value = 0;
	if (at_ + size > sizeof(executed_.bytes)) {
		at_ = 0xff;
		return 0;
	}
	__builtin_memcpy(&value, executed_.bytes + at_, size);
	at_ += static_cast<u8>(size);
	return sign_extend(value, size);
}

u8 PlainMove::width(Width width) const
{
	switch (width) {
	case Width::b: return 1;
	case Width::w: return 2;
	case Width::d: return 4;
	case Width::z: return operand_size_ == 2 ? 2 : 4;
	case Width::y: return rex_ & rex_w ? 8 : 4;
	default: return operand_size_;
	}
}

bool PlainMove::decode()
{
	const u8 *bytes = executed_.bytes;
	const bool operand_prefix = bytes[at_] == 0x66;
	if (operand_prefix)
		++at_;
	if ((bytes[at_] & 0xf0) == 0x40)
		rex_ = bytes[at_++];
	if (bytes[at_] == 0x0f)
		form_ = plain_two_byte[bytes[++at_]];
	else
		form_ = plain_one_byte[bytes[at_]];
	++at_;
	if (form_.kind == PlainForm::Kind::none)
		return false;
	operand_size_ = rex_ & rex_w ? 8 : operand_prefix ? 2 : 4;

	if (form_.by_offset) {
		address_ = static_cast<u64>(take(8));
		return true;
	}
	const u8 modrm = bytes[at_++];
	reg_ = static_cast<u8>((modrm >> 3 & 7) | (rex_ & rex_r ? 8 : 0));
	if (form_.kind == PlainForm::Kind::store_immediate) {
		if (modrm >> 3 & 7)
			return false; // not MOV
	} else if (width(form_.reg) == 1 && !rex_ && reg_ >= 4) {
		return false; // AH and its like
	}
	return decode_address(modrm);
}

bool PlainMove::decode_address(u8 modrm)
{
	const unsigned mod = modrm >> 6;
	u8 base = modrm & 7;
	u64 index = 0;
	if (mod == 3)
		return false;
	const bool has_sib = base == 4;
	if (has_sib) {
		const u8 sib = executed_.bytes[at_++];
		const u8 number = static_cast<u8>((sib >> 3 & 7) | (rex_ & rex_x ? 8 : 0));
		if (number != 4)
			index = registers_.gpr.values[number] << (sib >> 6);
		base = sib & 7;
	}
	if (mod == 0 && base == 5) {
		address_ = index + static_cast<u64>(take(4));
		if (form_.kind == PlainForm::Kind::store_immediate)
			immediate_ = static_cast<u64>(take(width(form_.reg)));
		if (!has_sib)
			address_ += registers_.rip + at_;
		return true;
	}
	address_ = registers_.gpr.values[base | (rex_ & rex_b ? 8 : 0)] + index;
	if (mod)
		address_ += static_cast<u64>(take(mod == 1 ? 1 : 4));
	if (form_.kind == PlainForm::Kind::store_immediate)
		immediate_ = static_cast<u64>(take(width(form_.reg)));
	return true;
}

Outcome<> PlainMove::execute(Guest &guest) const
{
	const unsigned size = width(form_.memory);
	u64 &reg = registers_.gpr.values[reg_];
	if (form_.kind == PlainForm::Kind::load) {
		u64 value = 0;
		TRY(guest.read(Gva{address_}, &value, size, Access::read));
		if (form_.sign)
			value = static_cast<u64>(sign_extend(value, size));
		const u64 mask = value_mask(width(form_.reg));
		reg = (width(form_.reg) >= 4 ? 0 : reg & ~mask) | (value & mask);
	} else {
		const u64 value = form_.kind == PlainForm::Kind::store ? reg : immediate_;
		TRY(guest.write(Gva{address_}, &value, size, Access::write));
	}
	registers_.rip += at_;
	registers_.rflags &= ~flag::rf;
	executed_.length = at_;
	executed_.retired = true;
	return {};
}

} // namespace kvmpp::x86::emulator
