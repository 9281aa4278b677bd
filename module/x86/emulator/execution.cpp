// SPDX-License-Identifier: GPL-2.0-only
// Registers, operands, exceptions and jumps of an instruction under way.
#include "x86/emulator/execution.h"

namespace kvmpp::x86::emulator
{

bool Execution::canonical(u64 linear) const
{
	const auto fits = [linear](unsigned width) {
		const s64 extended = static_cast<s64>(linear << (64 - width)) >> (64 - width);
		return static_cast<u64>(extended) == linear;
	};
	return fits(48) || ((guest.control(4) & X86_CR4_LA57) && fits(57));
}

bool Execution::has(Feature feature) const
{
	enum Register : u8 { eax, ebx, ecx, edx };
	struct Bit {
		u32 leaf;
		Register reg;
		u8 bit;
	};
	// In the order of Feature (SDM vol. 2, CPUID).
	static constexpr Bit bits_of[] = {{0, eax, 0}, {1, ecx, 23}, {1, ecx, 22}, {1, ecx, 20},
		{0x80000001, ecx, 5}, {7, ebx, 3}, {7, ebx, 8}, {7, ebx, 19}, {7, ebx, 20},
		{0x80000001, edx, 27}, {7, ecx, 22}, {7, ebx, 0}, {1, ecx, 13},
		{0x80000008, ebx, 9}};

	if (feature == Feature::always)
		return true;
	const Bit &wanted = bits_of[static_cast<u8>(feature)];
	u32 leaf[4] = {};
	guest.cpuid(wanted.leaf, 0, leaf);
	return leaf[wanted.reg] & bit(wanted.bit);
}

std::unexpected<Stop> Execution::raise(const Exception &exception)
{
	Exception raised = exception;
	// SDM vol. 3, 20.1.4: no error codes in real-address mode.
	if (mode == Mode::real)
		raised.has_error_code = false, raised.error_code = 0;
	guest.raise(raised);
	return std::unexpected{Stop::exception};
}

std::unexpected<Stop> Execution::fault(Vector vector, u16 selector)
{
	return raise(Exception::coded(vector, (selector & ~3u) | external));
}

std::unexpected<Stop> Execution::address_fault(SegmentName segment)
{
	const bool stack = segment == SegmentName::ss;
	return fault(stack ? Vector::stack_fault : Vector::general_protection, 0);
}

void Execution::set(Gpr name, u64 value, unsigned size)
{
	if (size >= 4)
		gpr[name] = value & value_mask(size);
	else
		gpr[name] = (gpr[name] & ~value_mask(size)) | (value & value_mask(size));
}

void Execution::commit()
{
	registers.gpr = gpr;
	registers.rip = rip;
	registers.rflags = rflags;
}

u64 Execution::effective_address() const
{
	const EffectiveAddress &from = instruction.address;
	u64 offset = static_cast<u64>(from.displacement);
	if (from.base == EffectiveAddress::rip)
		offset += rip;
	else if (from.base != EffectiveAddress::none)
		offset += gpr.values[from.base];
	if (from.index != EffectiveAddress::none)
		offset += gpr.values[from.index] << from.scale;
	return offset & value_mask(instruction.address_size);
}

Outcome<> Execution::load(Operand &operand)
{
	using Kind = Operand::Kind;
	switch (operand.kind) {
	case Kind::gpr:
		operand.value = gpr.values[operand.number] & value_mask(operand.size);
		break;
	case Kind::high_byte: operand.value = gpr.values[operand.number] >> 8 & 0xff; break;
	case Kind::memory: {
		const bool change = &operand == &dst && instruction.row->rules & rule::update;
		operand.value = TRY(read_value(instruction.address.segment, address, operand.size,
			change ? Access::read_for_write : Access::read));
		break;
	}
	case Kind::segment:
		operand.value = guest.segment(static_cast<SegmentName>(operand.number)).selector;
		break;
	default: break; // a constant has its value; the handler sees to the others
	}
	return {};
}

Outcome<> Execution::store(const Operand &operand, u64 value)
{
	using Kind = Operand::Kind;
	switch (operand.kind) {
	case Kind::gpr: set(static_cast<Gpr>(operand.number), value, operand.size); break;
	case Kind::high_byte: {
		u64 &whole = gpr.values[operand.number];
		whole = (whole & ~u64{0xff00}) | (value & 0xff) << 8;
		break;
	}
	case Kind::memory:
		return write_value(instruction.address.segment, address, value, operand.size);
	default: break;
	}
	return {};
}

Outcome<> Execution::update(u64 old, u64 value)
{
	if (!instruction.lock || dst.kind != Operand::Kind::memory)
		return store(dst, value);
	const Gva where = TRY(
		linear(instruction.address.segment, address, dst.size, Access::write, dst.size));
	// Another processor was faster: the guest tries again, as it finds things then.
	if (!TRY(guest.compare_exchange(where, &old, &value, dst.size, Access::write)))
		retired = false;
	return {};
}

// A near jump: SDM vol. 2, JMP.
Outcome<> Execution::jump(u64 target)
{
	target &= value_mask(instruction.operand_size);
	if (long_mode() ? !canonical(target) : target > guest.segment(SegmentName::cs).limit)
		return gp();
	rip = target;
	return {};
}

} // namespace kvmpp::x86::emulator
