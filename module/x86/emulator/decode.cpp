// SPDX-License-Identifier: GPL-2.0-only
// Bytes to Instruction: prefixes, opcode, ModRM, SIB, displacement, immediates. SDM vol. 2, ch. 2.
#include "x86/emulator/instruction.h"

namespace kvmpp::x86::emulator
{

namespace
{

constexpr u8 rex_w = 8, rex_r = 4, rex_x = 2, rex_b = 1;
constexpr u8 reg_sp = 4, reg_bp = 5;

class Decoder {
public:
	Decoder(Instruction &instruction, std::span<const u8> code, Mode mode)
		: i_{instruction}, code_{code}, mode_{mode}
	{}

	Decoded decode()
	{
		prefixes();
		if (const Decoded result = opcode(); result != Decoded::complete)
			return truncated_ ? Decoded::truncated : result;
		sizes();
		if (i_.row->has_modrm() && modrm_ < 0xc0 &&
			!i_.row->has_source(Source::gpr_rm, Source::gpr_rm))
			memory_operand();
		bool valid = true;
		for (unsigned n = 0; n < 3; ++n)
			valid &= operand(i_.operands[n], i_.row->operands.shape[n]);
		if (truncated_)
			return Decoded::truncated;
		i_.length = static_cast<u8>(at_);
		return valid && vvvv_allowed() ? Decoded::complete : Decoded::undefined;
	}

private:
	u8 peek() const { return at_ < code_.size() ? code_[at_] : 0; }

	// The next `size` bytes, sign-extended.
	s64 take(unsigned size)
	{
		if (at_ + size > code_.size()) {
			truncated_ = true;
			return 0;
		}
		u64 value = 0;
		for (unsigned n = 0; n < size; ++n)
			value |= u64{code_[at_ + n]} << (8 * n);
		at_ += size;
		const unsigned unused = 64 - 8 * size;
		return static_cast<s64>(value << unused) >> unused;
	}

	u8 take_byte() { return static_cast<u8>(take(1)); }

	bool long_mode() const { return mode_ == Mode::long64; }

	void override_segment(SegmentName name)
	{
		// SDM vol. 1, 3.4.4: the other four do nothing in 64-bit mode.
		if (!long_mode() || name >= SegmentName::fs)
			i_.data_segment = name, overridden_ = true;
	}

	void prefixes()
	{
		for (; at_ < code_.size(); ++at_) {
			const u8 byte = code_[at_];
			switch (byte) {
			case 0x26: override_segment(SegmentName::es); break;
			case 0x2e: override_segment(SegmentName::cs); break;
			case 0x36: override_segment(SegmentName::ss); break;
			case 0x3e: override_segment(SegmentName::ds); break;
			case 0x64: override_segment(SegmentName::fs); break;
			case 0x65: override_segment(SegmentName::gs); break;
			case 0x66: i_.operand_prefix = true; break;
			case 0x67: address_prefix_ = true; break;
			case 0xf0: i_.lock = true; break;
			case 0xf2: i_.repeat = Repeat::while_not_equal; break;
			case 0xf3: i_.repeat = Repeat::while_equal; break;
			default:
				if (!long_mode() || (byte & 0xf0) != 0x40)
					return;
				rex_ = byte;
				continue;
			}
			rex_ = 0; // REX counts only just before the opcode
		}
	}

	when::Condition prefix_fact() const
	{
		switch (i_.repeat) {
		case Repeat::while_equal: return when::pf3;
		case Repeat::while_not_equal: return when::pf2;
		case Repeat::none: break;
		}
		return i_.operand_prefix ? when::p66 : when::np;
	}

	Decoded opcode()
	{
		i_.opcode = take_byte();
		if (i_.opcode == 0x0f) {
			i_.opcode = take_byte();
			if (i_.opcode == 0x38)
				return find(map_0f38, take_byte());
			if (i_.opcode == 0x3a)
				return find(map_0f3a, take_byte());
			return find(two_byte_map, i_.opcode);
		}
		// C4 and C5 are LES and LDS outside 64-bit mode where ModRM would name memory.
		if ((i_.opcode == 0xc4 || i_.opcode == 0xc5) && (long_mode() || peek() >= 0xc0))
			return vex();
		return find(one_byte_map, i_.opcode);
	}

	// SDM vol. 2, 2.3.
	Decoded vex()
	{
		constexpr when::Condition prefix_facts[] = {
			when::np, when::p66, when::pf3, when::pf2};
		if (i_.lock || i_.repeat != Repeat::none || i_.operand_prefix || rex_ ||
			mode_ == Mode::real || mode_ == Mode::virtual8086)
			return Decoded::undefined;
		i_.vex = true;
		u8 map = 1;
		u8 last = take_byte();
		rex_ = last & 0x80 ? 0 : rex_r;
		if (i_.opcode == 0xc4) {
			map = last & 0x1f;
			rex_ = static_cast<u8>(~last >> 5 & 7);
			last = take_byte();
			rex_ |= last & 0x80 ? rex_w : 0;
		}
		vvvv_ = static_cast<u8>(~last >> 3 & 0xf);
		if (!long_mode()) {
			rex_ = 0;
			vvvv_ &= 7;
		}
		i_.vector_size = last & 4 ? 32 : 16;
		vex_facts_ = prefix_facts[last & 3];
		const u8 byte = take_byte();
		switch (map) {
		case 1: return find(vex_0f, byte);
		case 2: return find(vex_0f38, byte);
		case 3: return find(vex_0f3a, byte);
		}
		return Decoded::undefined;
	}

	Decoded find(const OpcodeMap &map, u8 byte)
	{
		i_.opcode = byte;
		if (map.has_modrm(byte))
			modrm_ = take_byte();
		if (truncated_)
			return Decoded::truncated;
		const unsigned facts = (i_.vex ? vex_facts_ : prefix_fact()) |
				       (modrm_ < 0xc0 ? when::mem : when::reg) |
				       (long_mode() ? when::m64 : when::m32) |
				       (i_.vector_size == 32 ? when::l1 : when::l0) |
				       (rex_ & rex_w ? when::w1 : when::w0);
		i_.row = map.find(byte, static_cast<when::Condition>(facts), modrm_);
		return i_.row ? Decoded::complete : Decoded::unknown;
	}

	void sizes()
	{
		if (long_mode()) {
			const bool wide = i_.row->rules & (rule::d64 | rule::f64);
			i_.address_size = address_prefix_ ? 4 : 8;
			i_.operand_size = wide ? 8 : 4;
			if (rex_ & rex_w || i_.row->rules & rule::f64)
				i_.operand_size = 8;
			else if (i_.operand_prefix && !i_.vex)
				i_.operand_size = 2;
			return;
		}
		const bool wide = mode_ == Mode::protected32;
		i_.operand_size = wide != (i_.operand_prefix && !i_.vex) ? 4 : 2;
		i_.address_size = wide != address_prefix_ ? 4 : 2;
	}

	// SDM vol. 2, tables 2-1 to 2-3.
	void memory_operand()
	{
		EffectiveAddress &address = i_.address;
		const unsigned mod = modrm_ >> 6;
		unsigned displacement = mod == 1 ? 1 : 0;
		if (i_.address_size == 2) {
			constexpr u8 none = EffectiveAddress::none, bx = 3, bp = 5, si = 6, di = 7;
			constexpr u8 pairs[8][2] = {{bx, si}, {bx, di}, {bp, si}, {bp, di},
				{si, none}, {di, none}, {bp, none}, {bx, none}};
			if (mod == 2)
				displacement = 2;
			if (mod == 0 && (modrm_ & 7) == 6) {
				displacement = 2;
			} else {
				address.base = pairs[modrm_ & 7][0];
				address.index = pairs[modrm_ & 7][1];
			}
		} else {
			u8 base = modrm_ & 7;
			const bool has_sib = base == reg_sp;
			if (has_sib) {
				const u8 sib = take_byte();
				const u8 index =
					static_cast<u8>((sib >> 3 & 7) | (rex_ & rex_x ? 8 : 0));
				address.index = index == reg_sp ? EffectiveAddress::none : index;
				address.scale = sib >> 6;
				base = sib & 7;
			}
			if (mod == 2)
				displacement = 4;
			if (mod == 0 && base == reg_bp) {
				displacement = 4;
				if (long_mode() && !has_sib)
					address.base = EffectiveAddress::rip;
			} else {
				address.base = static_cast<u8>(base | (rex_ & rex_b ? 8 : 0));
			}
		}
		address.displacement = displacement ? take(displacement) : 0;
		address.segment = i_.data_segment;
		if (!overridden_ && (address.base == reg_sp || address.base == reg_bp))
			address.segment = SegmentName::ss;
	}

	u8 width(Width width) const
	{
		const u8 y = rex_ & rex_w ? 8 : 4;
		switch (width) {
		case Width::none: return 0;
		case Width::b: return 1;
		case Width::w: return 2;
		case Width::d: return 4;
		case Width::q: return 8;
		case Width::v: return i_.operand_size;
		case Width::z: return i_.operand_size == 2 ? 2 : 4;
		case Width::y: return y;
		case Width::n: return long_mode() ? 8 : 4;
		case Width::dq: return 16;
		case Width::x: return i_.vector_size;
		}
		return 0;
	}

	void general_register(Operand &operand, u8 number)
	{
		operand.kind = Operand::Kind::gpr;
		operand.number = number;
		if (operand.size == 1 && !rex_ && !i_.vex && number >= 4) {
			operand.kind = Operand::Kind::high_byte;
			operand.number = number - 4;
		}
	}

	// False for an operand that the manual does not allow.
	bool operand(Operand &operand, Shape shape)
	{
		using Kind = Operand::Kind;
		const bool memory = modrm_ < 0xc0;
		const u8 reg = modrm_ >> 3 & 7, rm = modrm_ & 7;
		const u8 reg_ext = static_cast<u8>(reg | (rex_ & rex_r ? 8 : 0));
		const u8 rm_ext = static_cast<u8>(rm | (rex_ & rex_b ? 8 : 0));

		operand.size = width(shape.width);
		switch (shape.source) {
		case Source::none: break;
		case Source::rm:
			if (memory)
				operand.kind = Kind::memory;
			else
				general_register(operand, rm_ext);
			break;
		case Source::gpr_rm: general_register(operand, rm_ext); break;
		case Source::memory: operand.kind = Kind::address; return memory;
		case Source::reg: general_register(operand, reg_ext); break;
		case Source::segment: operand = {Kind::segment, reg, 2, 0}; return reg < 6;
		case Source::control: operand = {Kind::control, reg_ext, operand.size, 0}; break;
		case Source::debug: operand = {Kind::debug, reg_ext, operand.size, 0}; break;
		case Source::vector_reg: operand = {Kind::vector, reg_ext, operand.size, 0}; break;
		case Source::vector_rm:
			operand = {memory ? Kind::address : Kind::vector, rm_ext, operand.size, 0};
			break;
		case Source::mmx_reg: operand = {Kind::mmx, reg, operand.size, 0}; break;
		case Source::mmx_rm:
			operand = {memory ? Kind::address : Kind::mmx, rm, operand.size, 0};
			break;
		case Source::vvvv:
			general_register(operand, vvvv_);
			uses_vvvv_ = true;
			break;
		case Source::vector_vvvv:
			operand = {Kind::vector, vvvv_, operand.size, 0};
			uses_vvvv_ = true;
			break;
		case Source::opcode_reg:
			general_register(
				operand, static_cast<u8>((i_.opcode & 7) | (rex_ & rex_b ? 8 : 0)));
			break;
		case Source::opcode_segment:
			operand = {Kind::segment, static_cast<u8>(i_.opcode >> 3 & 7), 2, 0};
			break;
		case Source::accumulator: operand.kind = Kind::gpr; break;
		case Source::count: operand = {Kind::gpr, 1, 1, 0}; break;
		case Source::port: operand = {Kind::gpr, 2, 2, 0}; break;
		case Source::one: operand = {Kind::constant, 0, 1, 1}; break;
		case Source::immediate:
			operand.kind = Kind::constant;
			operand.value = static_cast<u64>(take(operand.size)) &
					bits(8 * operand.size - 1, 0);
			break;
		case Source::signed_immediate:
		case Source::relative:
			operand.kind = Kind::constant;
			operand.value = static_cast<u64>(take(operand.size));
			break;
		case Source::offset:
			operand.kind = Kind::memory;
			i_.address = {};
			i_.address.segment = i_.data_segment;
			i_.address.displacement = take(i_.address_size);
			break;
		}
		return true;
	}

	// SDM vol. 2, 2.3.5.5: an unused VEX.vvvv is 1111b, which is 0 here.
	bool vvvv_allowed() const { return uses_vvvv_ || vvvv_ == 0; }

	Instruction &i_;
	std::span<const u8> code_;
	Mode mode_;
	unsigned at_ = 0;
	bool truncated_ = false;
	bool overridden_ = false;
	bool address_prefix_ = false;
	bool uses_vvvv_ = false;
	u8 rex_ = 0;
	u8 vvvv_ = 0;
	u8 modrm_ = 0xc0;
	when::Condition vex_facts_ = 0;
};

} // namespace

Decoded decode(Instruction &instruction, std::span<const u8> code, Mode mode)
{
	return Decoder{instruction, code, mode}.decode();
}

} // namespace kvmpp::x86::emulator
