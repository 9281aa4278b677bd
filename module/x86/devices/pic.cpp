// SPDX-License-Identifier: GPL-2.0-only
// The 8259A pair: ports, lines and the cascade.
#include "x86/devices/pic.h"

#include <bit>

namespace kvmpp::x86
{

namespace
{

enum Port : u16 {
	master_command = 0x20,
	master_data = 0x21,
	slave_command = 0xa0,
	slave_data = 0xa1,
	master_elcr = 0x4d0,
	slave_elcr = 0x4d1,
};

constexpr u8 cascade = PicChip::cascade, cascade_bit = PicChip::cascade_bit;
constexpr u8 spurious = 7;
// Timer, keyboard and cascade, real-time clock and coprocessor are edges always.
constexpr u8 master_elcr_mask = 0xf8, slave_elcr_mask = 0xde;

} // namespace

Pic::Pic(const Lines &lines) : lines_{lines}
{
	reset();
}

void Pic::reset()
{
	run([](State &state) {
		const u16 forgotten =
			static_cast<u16>((state.master.r.irr | state.master.r.isr) |
					 (state.slave.r.irr | state.slave.r.isr) << 8);
		state = {};
		state.master.r.elcr_mask = master_elcr_mask;
		state.slave.r.elcr_mask = slave_elcr_mask;
		return Acknowledged{forgotten};
	});
}

// Uses the state under the lock, brings the output up to date, and then reports what ended.
template <class Use>
u8 Pic::run(Use &&use)
{
	const Acknowledged result = state_.with([&](State &state) {
		const Acknowledged inner = use(state);
		update(state);
		return inner;
	});
	for (u16 left = result.lines & ~cascade_bit; left; left &= left - 1)
		lines_.acknowledged(std::countr_zero(left));
	return result.value;
}

void Pic::update(State &state)
{
	// The slave's output is pulsed with every change, so the master sees an edge for each.
	if (state.slave.request(false))
		state.master.r.irr |= cascade_bit;
	const bool level = state.master.request(true).has_value();
	if (level == output())
		return;
	output_.store(level, std::memory_order_relaxed);
	lines_.output(level);
}

int Pic::set_line(unsigned line, unsigned source, bool level)
{
	if (line >= line_count || source >= source_count)
		return delivery_ignored;
	return state_.with([&](State &state) {
		u64 &sources = state.sources[line % line_count];
		sources = level ? sources | bit(source) : sources & ~bit(source);
		PicChip &chip = line < 8 ? state.master : state.slave;
		const int result = chip.set_line(line & 7, sources != 0);
		update(state);
		return result;
	});
}

void Pic::drop_source(unsigned source)
{
	for (unsigned line = 0; line < line_count; ++line)
		set_line(line, source, false);
}

u8 Pic::acknowledge()
{
	return run([](State &state) { return take(state); });
}

Pic::Acknowledged Pic::take(State &state)
{
	PicChip &master = state.master, &slave = state.slave;
	const auto line = master.request(true);
	if (!line)
		return {0, static_cast<u8>(master.r.irq_base + spurious)};
	u16 over = master.take(*line);
	if (*line != cascade)
		return {over, static_cast<u8>(master.r.irq_base + *line)};
	const auto behind = slave.request(false);
	if (!behind)
		return {over, static_cast<u8>(slave.r.irq_base + spurious)};
	over |= slave.take(*behind) << 8;
	return {over, static_cast<u8>(slave.r.irq_base + *behind)};
}

// The read that follows a poll command is an interrupt acknowledge too.
Pic::Acknowledged Pic::poll(State &state, bool slave)
{
	PicChip &chip = slave ? state.slave : state.master;
	chip.r.poll = 0;
	const auto line = chip.request(!slave);
	if (!line)
		return {};
	const u8 over = chip.take(*line);
	if (slave)
		state.master.r.irr &= ~cascade_bit;
	return {static_cast<u16>(slave ? over << 8 : over), static_cast<u8>(0x80 | *line)};
}

u8 Pic::read(u16 port)
{
	return run([port](State &state) -> Acknowledged {
		const auto chip = [&state](bool slave, bool data) -> Acknowledged {
			const kvm_pic_state &r = (slave ? state.slave : state.master).r;
			if (r.poll)
				return poll(state, slave);
			return {0, data ? r.imr : r.read_reg_select ? r.isr : r.irr};
		};
		switch (port) {
		case master_command: return chip(false, false);
		case master_data: return chip(false, true);
		case slave_command: return chip(true, false);
		case slave_data: return chip(true, true);
		case master_elcr: return {0, state.master.r.elcr};
		case slave_elcr: return {0, state.slave.r.elcr};
		default: return {0, 0xff};
		}
	});
}

void Pic::write(u16 port, u8 value)
{
	run([port, value](State &state) -> Acknowledged {
		switch (port) {
		case master_command: return {state.master.command(value)};
		case slave_command:
			if (value & 0x10)
				state.master.r.irr &= ~cascade_bit;
			return {static_cast<u16>(state.slave.command(value) << 8)};
		case master_data: state.master.data(value); break;
		case slave_data: state.slave.data(value); break;
		case master_elcr: state.master.r.elcr = value & master_elcr_mask; break;
		case slave_elcr: state.slave.r.elcr = value & slave_elcr_mask; break;
		}
		return {};
	});
}

void Pic::get(unsigned chip, kvm_pic_state &out)
{
	out = state_.with(
		[chip](const State &state) { return (chip ? state.slave : state.master).r; });
}

void Pic::set(unsigned chip, const kvm_pic_state &in)
{
	run([chip, &in](State &state) -> Acknowledged {
		kvm_pic_state &r = (chip ? state.slave : state.master).r;
		r = in;
		r.elcr_mask = chip ? slave_elcr_mask : master_elcr_mask;
		r.elcr &= r.elcr_mask;
		r.priority_add &= 7;
		r.irq_base &= 0xf8;
		r.init_state &= 3;
		for (u8 *flag : {&r.read_reg_select, &r.poll, &r.special_mask, &r.auto_eoi,
			     &r.rotate_on_auto_eoi, &r.special_fully_nested_mode, &r.init4})
			*flag = *flag != 0;
		return {};
	});
}

} // namespace kvmpp::x86
