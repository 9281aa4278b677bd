// SPDX-License-Identifier: GPL-2.0-only
// The short way for what device drivers do: 64-bit code that moves between a general register, or
// an immediate, and memory. Whatever is unusual about an instruction sends it the long way.
#pragma once

#include "x86/emulator/emulator.h"
#include "x86/emulator/instruction.h"

namespace kvmpp::x86::emulator
{

// What an opcode is to this file, derived from its row in the opcode map.
struct PlainForm {
	enum class Kind : u8 { none, load, store, store_immediate };

	Kind kind = Kind::none;
	bool by_offset = false; // MOV AL, moffs and kin
	bool sign = false;
	Width memory{}, reg{};
};

using PlainForms = std::array<PlainForm, 256>;

template <usize n>
consteval PlainForms plain_forms(const Row (&rows)[n])
{
	constexpr auto in_memory = [](Shape shape) {
		return shape.source == Source::rm || shape.source == Source::offset;
	};
	PlainForms forms{};
	for (const Row &row : rows) {
		if (!(row.rules & rule::plain))
			continue;
		const Shape to = row.operands.shape[0], from = row.operands.shape[1];
		PlainForm form{};
		form.sign = row.rules & rule::extend;
		if (in_memory(to)) {
			const bool constant = from.source == Source::immediate ||
					      from.source == Source::signed_immediate;
			form.kind = constant ? PlainForm::Kind::store_immediate
					     : PlainForm::Kind::store;
			form.memory = to.width;
			form.reg = from.width;
		} else if (in_memory(from)) {
			form.kind = PlainForm::Kind::load;
			form.memory = from.width;
			form.reg = to.width;
		} else {
			continue;
		}
		form.by_offset = to.source == Source::offset || from.source == Source::offset;
		forms[row.opcode.first] = form;
	}
	return forms;
}

extern const PlainForms plain_one_byte, plain_two_byte;

class PlainMove {
public:
	PlainMove(Executed &executed, Registers &registers);

	bool applies() const { return applies_; }
	Outcome<> execute(Guest &guest) const;

private:
	bool decode();
	bool decode_address(u8 modrm);
	s64 take(unsigned size);
	u8 width(Width width) const;

	Executed &executed_;
	Registers &registers_;
	PlainForm form_{};
	bool applies_ = false;
	u8 at_ = 0;
	u8 rex_ = 0;
	u8 operand_size_ = 4;
	u8 reg_ = 0;
	u64 address_ = 0;
	u64 immediate_ = 0;
};

} // namespace kvmpp::x86::emulator
