// SPDX-License-Identifier: GPL-2.0-only
// A local APIC: its base MSR, reset, and the state that a VMM saves and restores.
#include <algorithm>
#include <cstring>
#include "x86/devices/lapic.h"

namespace kvmpp::x86
{

namespace
{

constexpr u32 version_integrated = 0x14;

// An ID that does not fit is one nobody can address: 0xff means everyone.
constexpr u32 xapic_id_of(u32 id)
{
	return std::min<u32>(id, 0xff);
}

u32 register_of(const kvm_lapic_state &state, u32 offset)
{
	u32 value;
	std::memcpy(&value, &state.regs[offset], sizeof(value));
	return value;
}

void set_register_of(kvm_lapic_state &state, u32 offset, u32 value)
{
	std::memcpy(&state.regs[offset], &value, sizeof(value));
}

constexpr u32 offset_of(ApicRegister name)
{
	return static_cast<u16>(name);
}

} // namespace

static_assert(sizeof(kvm_lapic_state) == ApicPage::register_bytes);

void Lapic::reset(bool bsp, bool lint0_extint)
{
	base_ = apic_base::default_address | apic_base::enable | (bsp ? apic_base::bsp : 0);
	clear_registers();
	events_.store(0);
	page_.write(ApicRegister::id, xapic_id_of(id_) << 24);
	if (bsp && lint0_extint)
		page_.write(ApicRegister::lvt_lint0, static_cast<u32>(Delivery::extint) << 8);
	publish();
}

void Lapic::init()
{
	const u32 id = page_.read(ApicRegister::id);
	clear_registers();
	page_.write(ApicRegister::id, id);
	set_mode_registers();
	publish();
}

// SDM vol. 3, 11.4.7.1.
void Lapic::clear_registers()
{
	timer_.stop();
	timer_.set_mode(LapicTimer::Mode::one_shot);
	timer_.set_divide(0);
	events_.fetch_and(~(event_timer | event_illegal_vector));
	page_.posted().take([](unsigned, u64) {});
	errors_ = 0;

	for (u32 offset = 0; offset < ApicPage::register_bytes; offset += sizeof(u32))
		page_.store(offset, 0);
	page_.write(ApicRegister::version, version());
	page_.write(ApicRegister::dfr, ~u32{0});
	page_.write(ApicRegister::svr, 0xff);
	for (ApicRegister entry : lvt_entries)
		page_.write(entry, lvt_masked);
	reload();
}

// ID and LDR as the mode has them.
void Lapic::set_mode_registers()
{
	if (!x2apic_enabled())
		return;
	page_.write(ApicRegister::id, id_);
	page_.write(ApicRegister::ldr, x2apic_logical_id(id_));
}

u32 Lapic::version() const
{
	const u32 last_entry = features_.cmci ? 6 : 5;
	return version_integrated | last_entry << 16 | (features_.directed_eoi ? 1u << 24 : 0);
}

void Lapic::set_features(const Features &features)
{
	features_ = features;
	page_.write(ApicRegister::version, version());
}

void Lapic::publish()
{
	const bool x2apic = x2apic_enabled();
	const u32 ldr = page_.read(ApicRegister::ldr);
	identity_.store({
		.id = id_,
		.xapic_id = static_cast<u8>(
			x2apic ? xapic_id_of(id_) : page_.read(ApicRegister::id) >> 24),
		.logical_id = static_cast<u8>(x2apic ? 0 : ldr >> 24),
		.model = static_cast<u8>(page_.read(ApicRegister::dfr) >> 28),
		.x2apic = x2apic,
		.hardware_enabled = (base_ & apic_base::enable) != 0,
		.software_enabled =
			(base_ & apic_base::enable) && (page_.read(ApicRegister::svr) & svr_enable),
	});
}

Result<> Lapic::set_base(u64 value, unsigned physical_bits, bool by_vmm)
{
	using namespace apic_base;
	const u64 known = bsp | enable | (features_.x2apic ? apic_base::x2apic : 0) |
			  (bits(physical_bits - 1, 0) & ~(page_size - 1));
	if (value & ~known)
		return fail(EINVAL);
	const bool was_on = base_ & enable, on = value & enable;
	const bool was_x2 = base_ & apic_base::x2apic, x2 = value & apic_base::x2apic;
	// SDM vol. 3, 11.12.5: no x2APIC without APIC; into x2APIC mode only from xAPIC mode, out
	// of it only by disabling.
	if (x2 && !on)
		return fail(EINVAL);
	if (!by_vmm && ((x2 && !was_on) || (was_x2 && on && !x2)))
		return fail(EINVAL);

	base_ = value;
	if (was_on && !on) {
		clear_registers();
		page_.write(ApicRegister::id, xapic_id_of(id_) << 24);
	} else if (x2 && !was_x2) {
		set_mode_registers();
		page_.store(icr_high_x2apic, 0);
	} else if (was_x2 && !x2) {
		page_.write(ApicRegister::id, xapic_id_of(id_) << 24);
		page_.write(ApicRegister::ldr, 0);
		page_.store(icr_high_x2apic, 0);
	}
	publish();
	return {};
}

void Lapic::get(kvm_lapic_state &state, bool wide)
{
	hold_timer();
	timer_.resume();
	take_posted();
	state = {};
	for (u32 offset = 0; offset < ApicPage::register_bytes; offset += 16)
		set_register_of(state, offset, page_.load(offset));
	set_register_of(state, offset_of(ApicRegister::ppr), processor_priority());
	set_register_of(state, offset_of(ApicRegister::current_count), timer_.current_count());
	// What a guest wrote to end an interrupt, where the processor keeps it.
	set_register_of(state, offset_of(ApicRegister::eoi), 0);
	if (!x2apic_enabled())
		return;
	// The format is the xAPIC's: ICR in two halves, and the ID in the high byte unless asked.
	set_register_of(state, offset_of(ApicRegister::icr_high), page_.load(icr_high_x2apic));
	if (!wide)
		set_register_of(state, offset_of(ApicRegister::id), id_ << 24);
}

Result<> Lapic::set(const kvm_lapic_state &state, bool wide)
{
	if (x2apic_enabled() && wide && register_of(state, offset_of(ApicRegister::id)) != id_)
		return fail(EINVAL);
	// An armed deadline is not part of this state, and stays unless the mode changes.
	const u64 deadline = timer_.tsc_deadline(), expiry = timer_.expiry();
	clear_registers();

	const auto copy = [&](u32 offset, u32 mask) {
		page_.store(offset, register_of(state, offset) & mask);
	};
	const auto copy_vectors = [&](ApicRegister name, u32 legal = 0xffff0000) {
		for (u32 word = 0; word < 8; ++word)
			copy(offset_of(name) + word * 16, word ? ~u32{0} : legal);
	};
	const auto copy_writable = [&](ApicRegister name) {
		copy(offset_of(name), writable(offset_of(name)));
	};
	copy_vectors(ApicRegister::isr);
	copy_vectors(ApicRegister::tmr);
	// Requests that are illegal are never served, but are seen as they were set.
	copy_vectors(ApicRegister::irr, ~u32{0});
	copy(offset_of(ApicRegister::esr), 0xff);
	for (auto name : {ApicRegister::id, ApicRegister::ldr, ApicRegister::tpr, ApicRegister::svr,
		     ApicRegister::icr, ApicRegister::icr_high, ApicRegister::initial_count,
		     ApicRegister::divide})
		copy_writable(name);
	page_.write(
		ApicRegister::dfr, register_of(state, offset_of(ApicRegister::dfr)) | 0x0fffffff);
	for (ApicRegister entry : lvt_entries)
		if (readable(offset_of(entry)))
			write_lvt(entry,
				register_of(state, offset_of(entry)) & writable(offset_of(entry)));
	if (x2apic_enabled()) {
		page_.store(icr_high_x2apic, register_of(state, offset_of(ApicRegister::icr_high)));
		page_.write(ApicRegister::icr_high, 0);
	}
	set_mode_registers();
	reload();
	publish();

	timer_.set_divide(page_.read(ApicRegister::divide));
	timer_.set_mode(timer_mode());
	timer_.start(page_.read(ApicRegister::initial_count),
		register_of(state, offset_of(ApicRegister::current_count)));
	timer_.continue_deadline(deadline, expiry);
	return {};
}

} // namespace kvmpp::x86
