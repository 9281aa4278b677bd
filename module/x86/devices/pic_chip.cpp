// SPDX-License-Identifier: GPL-2.0-only
// One 8259A. Command words (ICW1 to 4, OCW1 to 3) are named as in its data sheet.
#include "x86/devices/pic_chip.h"

#include <bit>

namespace kvmpp::x86
{

namespace
{

constexpr u8 no_rank = 8; // lower than all

constexpr u8 bit_of(unsigned line)
{
	return static_cast<u8>(1 << line);
}

} // namespace

// How far the most urgent of these lines is from the top; no_rank if there is none.
u8 PicChip::rank(u8 lines) const
{
	if (!lines)
		return no_rank;
	return static_cast<u8>(std::countr_zero(std::rotr(lines, r.priority_add)));
}

// Fully nested; special mask and special fully nested mode take some of what is served away.
std::optional<u8> PicChip::request(bool master) const
{
	u8 serving = r.isr;
	if (r.special_mask)
		serving &= ~r.imr;
	if (master && r.special_fully_nested_mode)
		serving &= ~cascade_bit;
	const u8 wanted = rank(r.irr & ~r.imr);
	if (wanted >= rank(serving))
		return {};
	return (wanted + r.priority_add) & 7;
}

int PicChip::set_line(u8 line, bool level)
{
	const u8 mask = bit_of(line);
	const bool was_high = r.last_irr & mask, requested = r.irr & mask;
	int result = 1;
	if (level) {
		r.last_irr |= mask;
		if ((r.elcr & mask) || !was_high) {
			r.irr |= mask;
			result = requested ? delivery_coalesced : 1;
		}
	} else {
		r.last_irr &= ~mask;
		if (r.elcr & mask)
			r.irr &= ~mask;
	}
	return r.imr & mask ? delivery_ignored : result;
}

u8 PicChip::finish(u8 line)
{
	r.isr &= ~bit_of(line);
	return bit_of(line);
}

u8 PicChip::take(u8 line)
{
	if (!(r.elcr & bit_of(line)))
		r.irr &= ~bit_of(line);
	r.isr |= bit_of(line);
	if (!r.auto_eoi)
		return 0;
	if (r.rotate_on_auto_eoi)
		r.priority_add = (line + 1) & 7;
	return finish(line);
}

u8 PicChip::initialize(u8 icw1)
{
	// The edge latches are cleared, a level that is high asks again at once.
	const u8 forgotten = r.isr | (r.irr & ~r.elcr);
	r.init4 = icw1 & 1;
	r.irr &= r.elcr;
	r.last_irr = 0;
	r.imr = 0;
	r.isr = 0;
	r.priority_add = 0;
	r.special_mask = 0;
	r.read_reg_select = 0;
	r.poll = 0;
	if (!r.init4) {
		r.special_fully_nested_mode = 0;
		r.auto_eoi = 0;
	}
	r.rotate_on_auto_eoi = 0;
	r.init_state = 1;
	return forgotten;
}

u8 PicChip::operation(u8 ocw2)
{
	const u8 line = ocw2 & 7;
	const auto rotate_past = [this](u8 lowest) { r.priority_add = (lowest + 1) & 7; };
	switch (ocw2 >> 5) {
	case 0: r.rotate_on_auto_eoi = 0; return 0;
	case 4: r.rotate_on_auto_eoi = 1; return 0;
	case 6: rotate_past(line); return 0;
	case 3: return finish(line);
	case 7: rotate_past(line); return finish(line);
	case 1:
	case 5: {
		// In special mask mode a level that is masked is not the one to end.
		const u8 serving = r.special_mask ? r.isr & ~r.imr : r.isr;
		const u8 highest = rank(serving);
		if (highest == no_rank)
			return 0;
		const u8 ended = (highest + r.priority_add) & 7;
		if (ocw2 >> 5 == 5)
			rotate_past(ended);
		return finish(ended);
	}
	default: return 0;
	}
}

void PicChip::mode(u8 ocw3)
{
	if (ocw3 & 4)
		r.poll = 1;
	if (ocw3 & 2)
		r.read_reg_select = ocw3 & 1;
	if (ocw3 & 0x40)
		r.special_mask = ocw3 >> 5 & 1;
}

u8 PicChip::command(u8 value)
{
	if (value & 0x10)
		return initialize(value);
	if (!(value & 0x08))
		return operation(value);
	mode(value);
	return 0;
}

void PicChip::data(u8 value)
{
	switch (r.init_state) {
	case 1:
		r.irq_base = value & 0xf8;
		r.init_state = 2;
		break;
	case 2: // ICW3: the cascade is wired
		r.init_state = r.init4 ? 3 : 0;
		break;
	case 3:
		r.special_fully_nested_mode = value >> 4 & 1;
		r.auto_eoi = value >> 1 & 1;
		r.init_state = 0;
		break;
	default: r.imr = value; break;
	}
}

} // namespace kvmpp::x86
