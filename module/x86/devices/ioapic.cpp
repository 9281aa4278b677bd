// SPDX-License-Identifier: GPL-2.0-only
// The I/O APIC. Section numbers are those of the 82093AA data sheet.
#include "x86/devices/ioapic.h"

#include <bit>
#include "host/speculation.h"

namespace kvmpp::x86
{

namespace
{

constexpr u32 version = 0x11 | (Ioapic::pin_count - 1) << 16;

enum Selector : u8 {
	select_id = 0,
	select_version = 1,
	select_arbitration = 2,
	select_table = 0x10
};

// The 32-bit window and its selector (3.1).
constexpr u32 offset_select = 0x00, offset_window = 0x10;

template <class Visit>
void for_each_pin(u32 pins, Visit &&visit)
{
	for (; pins; pins &= pins - 1)
		visit(static_cast<unsigned>(std::countr_zero(pins)));
}

constexpr u32 all_pins = static_cast<u32>(bits(Ioapic::pin_count - 1, 0));

} // namespace

Message Ioapic::Entry::message() const
{
	return {
		.destination = static_cast<u32>(raw >> 56),
		.vector = vector(),
		.delivery = static_cast<Delivery>(raw >> 8 & 7),
		.logical = (raw & bit(11)) != 0,
		.level = level(),
		.narrow = true,
	};
}

Ioapic::Ioapic(const Bus &bus) : bus_{bus}, timer_{&Ioapic::tick, this}
{
	reset();
}

void Ioapic::reset()
{
	state_.with([this](State &state) {
		state = {};
		update_vectors(state);
	});
	base_.store(default_base, std::memory_order_relaxed);
}

u64 Ioapic::read(u32 offset, unsigned size)
{
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return 0;
	const u32 value = state_.with([&](const State &state) -> u32 {
		switch (offset) {
		case offset_select: return state.selected;
		case offset_window: return read_selected(state);
		default: return 0;
		}
	});
	return value & bits(size * 8 - 1, 0);
}

void Ioapic::write(u32 offset, unsigned size, u64 value)
{
	// Narrow writes are zero-extended, of wide ones the low half counts, as with KVM.
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return;
	const u32 data = static_cast<u32>(value & bits(size * 8 - 1, 0));
	const u32 resumed = state_.with([&](State &state) -> u32 {
		if (offset == offset_select)
			state.selected = static_cast<u8>(data);
		return offset == offset_window ? write_selected(state, data) : 0;
	});
	for_each_pin(resumed, [this](unsigned pin) { resume(pin); });
}

// The pin whose entry is selected. Regression of CVE-2013-1798: every selector is safe.
std::optional<unsigned> Ioapic::selected_pin(const State &state)
{
	const unsigned pin = (state.selected - select_table) / 2;
	if (state.selected < select_table || pin >= pin_count)
		return {};
	return clamped(pin, pin_count);
}

u32 Ioapic::read_selected(const State &state) const
{
	switch (state.selected) {
	case select_id:
	case select_arbitration: return u32{state.id} << 24;
	case select_version: return version;
	default: break;
	}
	const auto pin = selected_pin(state);
	if (!pin)
		return ~u32{0};
	return static_cast<u32>(state.entries[*pin].raw >> (state.selected & 1) * 32);
}

// Returns the pins whose level-triggered interrupt may go on now.
u32 Ioapic::write_selected(State &state, u32 value)
{
	if (state.selected == select_id)
		state.id = value >> 24 & 0xf;
	const auto pin = selected_pin(state);
	if (!pin)
		return 0;
	Entry &entry = state.entries[*pin];
	const unsigned shift = (state.selected & 1) * 32;
	const u64 writable = Entry::writable & u64{0xffffffff} << shift;
	entry.raw = (entry.raw & ~writable) | (u64{value} << shift & writable);
	// Switching to edge and back is how software ends a level interrupt by hand on a chip
	// without an EOI register.
	if (!entry.level())
		entry.set_remote_irr(false);
	update_vectors(state);
	return entry.level() && ready(state, *pin) ? 1u << *pin : 0;
}

// A pin whose line went up while it was masked has been unmasked. Between the end of the last
// interrupt and now the guest may have quieted the device: if that one samples its line again, it
// does so before we believe the line.
void Ioapic::resume(unsigned pin)
{
	bus_.acknowledged(pin);
	state_.with([&](State &state) {
		if (state.entries[pin].level() && ready(state, pin))
			service(state, pin);
	});
}

int Ioapic::set_line(unsigned pin, unsigned source, bool level)
{
	if (pin >= pin_count || source >= source_count)
		return delivery_ignored;
	pin = clamped(pin, pin_count);
	return state_.with([&](State &state) {
		u64 &sources = state.sources[pin];
		sources = level ? sources | bit(source) : sources & ~bit(source);
		if (sources)
			return raise(state, pin);
		state.lines &= ~(1u << pin);
		return 1;
	});
}

void Ioapic::drop_source(unsigned source)
{
	for (unsigned pin = 0; pin < pin_count; ++pin)
		set_line(pin, source, false);
}

int Ioapic::raise(State &state, unsigned pin)
{
	const u32 mask = 1u << pin;
	const bool was_high = state.lines & mask;
	state.lines |= mask;
	if (!state.entries[pin].level()) {
		if (was_high)
			return delivery_coalesced;
		state.delivered &= ~mask;
	} else if (state.entries[pin].remote_irr()) {
		return delivery_coalesced;
	}
	return service(state, pin);
}

bool Ioapic::ready(const State &state, unsigned pin)
{
	const Entry &entry = state.entries[pin];
	return (state.lines & 1u << pin) && !entry.masked() && !entry.remote_irr();
}

// An edge on a masked pin is lost, a level stays (3.2.4).
int Ioapic::service(State &state, unsigned pin)
{
	if (!ready(state, pin))
		return delivery_ignored;
	Entry &entry = state.entries[pin];
	const int result = bus_.deliver(entry.message());
	if (!entry.level())
		state.delivered |= 1u << pin;
	else if (result >= 0)
		entry.set_remote_irr(true);
	return result;
}

void Ioapic::end_of_interrupt(u8 vector, bool broadcast)
{
	if (!handles(vector))
		return;
	const auto pins_of = [vector](const State &state) {
		u32 pins = 0;
		for (unsigned pin = 0; pin < pin_count; ++pin)
			if (state.entries[pin].vector() == vector)
				pins |= 1u << pin;
		return pins;
	};
	// Devices that sample their lines again do so first, so that a line that fell is not
	// served.
	for_each_pin(state_.with(pins_of), [this](unsigned pin) { bus_.acknowledged(pin); });
	if (!broadcast)
		return;
	state_.with([&](State &state) {
		for_each_pin(pins_of(state), [&](unsigned pin) {
			if (!state.entries[pin].level())
				return;
			state.entries[pin].set_remote_irr(false);
			if (!ready(state, pin)) {
				state.repeats[pin] = 0;
			} else if (++state.repeats[pin] < max_repeats) {
				service(state, pin);
			} else {
				state.repeats[pin] = 0;
				state.deferred |= 1u << pin;
				timer_.start(host::monotonic_ns() + repeat_delay);
			}
		});
	});
}

u64 Ioapic::tick(void *context, u64)
{
	auto &self = *static_cast<Ioapic *>(context);
	self.state_.with([&self](State &state) {
		for_each_pin(std::exchange(state.deferred, 0), [&](unsigned pin) {
			if (state.entries[pin].level())
				self.service(state, pin);
		});
	});
	return 0;
}

std::array<u64, 4> Ioapic::vectors() const
{
	std::array<u64, 4> result;
	for (unsigned word = 0; word < 4; ++word)
		result[word] = vectors_[word].load(std::memory_order_relaxed);
	return result;
}

void Ioapic::update_vectors(const State &state)
{
	// Masked entries too: a handler may mask its pin before it ends the interrupt.
	u64 vectors[4] = {};
	for (const Entry &entry : state.entries)
		vectors[entry.vector() >> 6] |= bit(entry.vector() & 63);
	bool changed = false;
	for (unsigned word = 0; word < 4; ++word)
		changed |= vectors_[word].exchange(vectors[word], std::memory_order_relaxed) != vectors[word];
	if (changed)
		bus_.vectors_changed();
}

void Ioapic::get(kvm_ioapic_state &out)
{
	out = {};
	out.base_address = base_.load(std::memory_order_relaxed);
	state_.with([&out](const State &state) {
		out.ioregsel = state.selected;
		out.id = state.id;
		// An edge that has been delivered must not be so again where this is restored.
		out.irr = state.lines & ~state.delivered;
		for (unsigned pin = 0; pin < pin_count; ++pin)
			out.redirtbl[pin].bits = state.entries[pin].raw;
	});
}

void Ioapic::set(const kvm_ioapic_state &in)
{
	base_.store(in.base_address, std::memory_order_relaxed);
	state_.with([this, &in](State &state) {
		state.selected = static_cast<u8>(in.ioregsel);
		state.id = in.id & 0xf;
		state.lines = 0;
		state.delivered = 0;
		state.deferred = 0;
		for (unsigned pin = 0; pin < pin_count; ++pin) {
			Entry &entry = state.entries[pin];
			entry.raw =
				in.redirtbl[pin].bits & (Entry::writable | Entry::remote_irr_bit);
			if (!entry.level())
				entry.set_remote_irr(false);
			state.repeats[pin] = 0;
		}
		update_vectors(state);
		for_each_pin(in.irr & all_pins, [&](unsigned pin) { raise(state, pin); });
	});
}

} // namespace kvmpp::x86
