// SPDX-License-Identifier: GPL-2.0-only
// A local APIC: its registers, by memory and by MSR.
#include <array>
#include "x86/devices/lapic.h"

namespace kvmpp::x86
{

namespace
{

enum Access : u8 { none = 0, x_read = 1, x_write = 2, x2_read = 4, x2_write = 8 };
constexpr u8 read_only = x_read | x2_read;
constexpr u8 write_only = x_write | x2_write;
constexpr u8 read_write = read_only | write_only;
constexpr u8 xapic_only = x_read | x_write;

struct Rule {
	u8 access = none;
	u32 writable = 0;
	u32 ignored = 0; // read-only bits of a writable register: written in vain, but no fault
};

constexpr u32 lvt_delivery_status = 1 << 12, lvt_remote_irr = 1 << 14;
constexpr u32 lvt_tsc_deadline = 1 << 18, lvt_periodic = 1 << 17;

// Tables 11-1 and 11-6 of SDM vol. 3, and the layouts in 11.4 to 11.8 and 11.12.
constexpr auto rules = [] {
	std::array<Rule, ApicPage::register_bytes / 16> table{};
	const auto rule = [&table](ApicRegister name) -> Rule & {
		return table[static_cast<u16>(name) / 16];
	};
	using enum ApicRegister;
	rule(ApicRegister::id) = {xapic_only | x2_read, 0xff000000};
	rule(version) = {read_only};
	rule(tpr) = {read_write, 0xff};
	rule(apr) = {x_read};
	rule(ppr) = {read_only};
	rule(eoi) = {write_only};
	rule(remote_read) = {x_read};
	rule(ldr) = {xapic_only | x2_read, 0xff000000};
	rule(dfr) = {xapic_only, 0xf0000000};
	rule(svr) = {read_write, 0x3ff};
	for (u16 word = 0; word < 8 * 3; ++word)
		table[static_cast<u16>(isr) / 16 + word] = {read_only};
	rule(esr) = {read_write};
	rule(icr) = {read_write, 0xccfff, 1 << 12};
	rule(icr_high) = {xapic_only, 0xff000000};
	rule(lvt_cmci) = {read_write, 0x107ff, lvt_delivery_status};
	rule(lvt_timer) = {read_write, 0x300ff, lvt_delivery_status};
	rule(lvt_thermal) = {read_write, 0x107ff, lvt_delivery_status};
	rule(lvt_pmc) = {read_write, 0x107ff, lvt_delivery_status};
	rule(lvt_lint0) = {read_write, 0x1a7ff, lvt_delivery_status | lvt_remote_irr};
	rule(lvt_lint1) = {read_write, 0x1a7ff, lvt_delivery_status | lvt_remote_irr};
	rule(lvt_error) = {read_write, 0x100ff, lvt_delivery_status};
	rule(initial_count) = {read_write, 0xffffffff};
	rule(current_count) = {read_only};
	rule(divide) = {read_write, 0xb};
	rule(self_ipi) = {x2_write, 0xff};
	return table;
}();

constexpr const Rule &rule_of(u32 offset)
{
	// The remainder is for speculation's sake: callers have checked.
	return rules[offset / 16 % rules.size()];
}

constexpr bool in_range(u32 msr)
{
	return msr >= x2apic_msr_first && msr - x2apic_msr_first < ApicPage::register_bytes / 16;
}

} // namespace

bool Lapic::readable(u32 offset) const
{
	if (offset == static_cast<u16>(ApicRegister::lvt_cmci) && !features_.cmci)
		return false;
	return rule_of(offset).access & (x2apic_enabled() ? x2_read : x_read);
}

u32 Lapic::writable(u32 offset) const
{
	u32 bits = rule_of(offset).writable;
	switch (static_cast<ApicRegister>(offset)) {
	// As KVM: what means nothing is kept, but for the delivery status, which is always idle.
	case ApicRegister::icr: return ~(u32{1} << 12);
	case ApicRegister::lvt_timer: return bits | (features_.tsc_deadline ? lvt_tsc_deadline : 0);
	case ApicRegister::svr: return bits | (features_.directed_eoi ? svr_no_broadcast : 0);
	case ApicRegister::lvt_cmci: return features_.cmci ? bits : 0;
	default: return bits;
	}
}

u64 Lapic::read_mmio(u32 offset, unsigned size)
{
	// Anything but an aligned dword is undefined (SDM vol. 3, 11.4.1); parts of one work.
	const u32 start = offset & 0xf;
	if (!size || size > sizeof(u32) || start + size > sizeof(u32))
		return 0;
	const u32 base = offset & ~0xfu;
	if (base >= ApicPage::register_bytes || !readable(base)) {
		error(error_illegal_register);
		return 0;
	}
	return (read_register(base) >> start * 8) & bits(size * 8 - 1, 0);
}

Lapic::Effect Lapic::write_mmio(u32 offset, unsigned size, u64 value)
{
	if ((offset & 0xf) || size != sizeof(u32))
		return {};
	if (offset == static_cast<u16>(ApicRegister::eoi)) // the most frequent by far
		return finish();
	const bool known = offset < ApicPage::register_bytes && (rule_of(offset).access != none) &&
			   rule_of(offset).access != x2_write &&
			   (offset != static_cast<u16>(ApicRegister::lvt_cmci) || features_.cmci);
	if (!known) {
		error(error_illegal_register);
		return {};
	}
	if (!(rule_of(offset).access & x_write))
		return {};
	return write_register(
		static_cast<ApicRegister>(offset), static_cast<u32>(value) & writable(offset));
}

bool Lapic::readable_in_page(ApicRegister name) const
{
	return readable(static_cast<u32>(name)) && name != ApicRegister::current_count;
}

Lapic::Effect Lapic::written(u32 offset)
{
	if (offset >= ApicPage::register_bytes)
		return {};
	const auto name = static_cast<ApicRegister>(offset & ~0xfu);
	if (!(rule_of(offset).access & (x2apic_enabled() ? x2_write : x_write)))
		return {};
	// Whose writes leave nothing behind in the page.
	if (name == ApicRegister::eoi) {
		page_.write(name, 0);
		return finish();
	}
	if (name == ApicRegister::initial_count && timer_.mode() == LapicTimer::Mode::tsc_deadline) {
		page_.write(name, 0);
		return {};
	}
	return write_register(name, page_.read(name) & writable(static_cast<u32>(name)));
}

std::optional<u64> Lapic::read_msr(u32 index)
{
	const u32 offset = (index - x2apic_msr_first) * 16;
	if (!x2apic_enabled() || !in_range(index) || !readable(offset))
		return {};
	if (offset == static_cast<u16>(ApicRegister::icr))
		return u64{page_.load(icr_high_x2apic)} << 32 | page_.read(ApicRegister::icr);
	return read_register(offset);
}

Lapic::Effect Lapic::write_msr(u32 index, u64 value)
{
	constexpr Effect fault{.kind = Effect::Kind::fault};
	if (!x2apic_enabled() || !in_range(index))
		return fault;
	const u32 offset = (index - x2apic_msr_first) * 16;
	const auto name = static_cast<ApicRegister>(offset);
	// These two first: they are what a guest writes all the time.
	if (name == ApicRegister::eoi)
		return value ? fault : finish();
	if (name == ApicRegister::icr)
		return write_wide_icr(value);
	if (!(rule_of(offset).access & x2_write) ||
		(name == ApicRegister::lvt_cmci && !features_.cmci))
		return fault;
	// Reserved bits fault (SDM vol. 3, 11.12.1.3).
	if (value & ~u64{writable(offset) | rule_of(offset).ignored})
		return fault;
	return write_register(name, static_cast<u32>(value) & writable(offset));
}

// Of all x2APIC registers only ICR has 64 bits.
Lapic::Effect Lapic::write_wide_icr(u64 value)
{
	const Rule &rule = rule_of(static_cast<u16>(ApicRegister::icr));
	const u32 low = static_cast<u32>(value), high = static_cast<u32>(value >> 32);
	if (low & ~(rule.writable | rule.ignored))
		return {.kind = Effect::Kind::fault};
	page_.write(ApicRegister::icr, low & rule.writable);
	page_.store(icr_high_x2apic, high);
	return command(low & rule.writable, high);
}

Lapic::Effect Lapic::finish()
{
	if (const auto eoi = end_of_interrupt())
		return {.kind = Effect::Kind::eoi, .eoi = *eoi};
	return {};
}

u32 Lapic::read_register(u32 offset)
{
	switch (static_cast<ApicRegister>(offset)) {
	case ApicRegister::ppr: return processor_priority();
	case ApicRegister::current_count: return timer_.current_count();
	default: break;
	}
	// What has been posted is in IRR as far as the guest can tell.
	if (offset >= static_cast<u16>(ApicRegister::irr) &&
		offset < static_cast<u16>(ApicRegister::irr) + 0x80)
		take_posted();
	return page_.load(offset);
}

// `value` has only bits that may be written.
Lapic::Effect Lapic::write_register(ApicRegister name, u32 value)
{
	constexpr Effect identity_changed{.kind = Effect::Kind::identity};
	switch (name) {
	case ApicRegister::tpr: page_.write(name, value); break;
	case ApicRegister::icr: {
		page_.write(name, value);
		return command(value, page_.read(ApicRegister::icr_high) >> 24);
	}
	case ApicRegister::self_ipi: return command(value | 1 << 18, 0);
	case ApicRegister::id:
	case ApicRegister::ldr:
		page_.write(name, value);
		publish();
		return identity_changed;
	case ApicRegister::dfr:
		page_.write(name, value | 0x0fffffff);
		publish();
		return identity_changed;
	case ApicRegister::svr: {
		const bool was_enabled = identity().software_enabled;
		page_.write(name, value);
		if (was_enabled == ((value & svr_enable) != 0))
			break;
		publish();
		// Software disable masks every local interrupt (SDM vol. 3, 11.4.7.2).
		if (was_enabled)
			for (ApicRegister entry : lvt_entries)
				page_.write(entry, page_.read(entry) | lvt_masked);
		return identity_changed;
	}
	case ApicRegister::esr:
		page_.write(name, errors_);
		errors_ = 0;
		break;
	case ApicRegister::lvt_timer:
		hold_timer();
		write_lvt(name, value);
		timer_.set_mode(timer_mode());
		break;
	case ApicRegister::lvt_cmci:
	case ApicRegister::lvt_thermal:
	case ApicRegister::lvt_pmc:
	case ApicRegister::lvt_lint0:
	case ApicRegister::lvt_lint1:
	case ApicRegister::lvt_error: write_lvt(name, value); break;
	case ApicRegister::initial_count:
		// Does nothing in TSC-deadline mode (SDM vol. 3, 11.5.4.1).
		if (timer_.mode() == LapicTimer::Mode::tsc_deadline)
			break;
		hold_timer();
		page_.write(name, value);
		timer_.start(value, value);
		break;
	case ApicRegister::divide:
		hold_timer();
		page_.write(name, value);
		timer_.set_divide(value);
		break;
	default: page_.write(name, value); break;
	}
	return {};
}

void Lapic::write_lvt(ApicRegister name, u32 value)
{
	// Masks cannot be lifted while software has the APIC disabled.
	if (!(page_.read(ApicRegister::svr) & svr_enable))
		value |= lvt_masked;
	page_.write(name, value);
}

LapicTimer::Mode Lapic::timer_mode() const
{
	const u32 entry = page_.read(ApicRegister::lvt_timer);
	if (entry & lvt_tsc_deadline)
		return LapicTimer::Mode::tsc_deadline;
	return entry & lvt_periodic ? LapicTimer::Mode::periodic : LapicTimer::Mode::one_shot;
}

void Lapic::set_tsc_deadline(u64 value, const TscMoment &moment)
{
	// Ignored in the other modes.
	if (timer_.mode() != LapicTimer::Mode::tsc_deadline)
		return;
	hold_timer();
	if (timer_.set_tsc_deadline(value, moment))
		deliver_timer();
}

void Lapic::tsc_changed(const TscMoment &moment)
{
	if (timer_.tsc_deadline())
		set_tsc_deadline(timer_.tsc_deadline(), moment);
}

// A write of ICR (SDM vol. 3, 11.6.1).
Lapic::Effect Lapic::command(u32 low, u32 destination)
{
	const Message message{
		.destination = destination,
		.vector = static_cast<u8>(low),
		.delivery = static_cast<Delivery>(low >> 8 & 7),
		.shorthand = static_cast<Shorthand>(low >> 18 & 3),
		.logical = (low & 1 << 11) != 0,
		.level = (low & 1 << 15) != 0,
		.asserted = (low & 1 << 14) != 0,
		.narrow = !x2apic_enabled(),
	};
	switch (message.delivery) {
	case Delivery::fixed:
	case Delivery::lowest_priority:
		if (message.vector < 16) {
			error(error_send_illegal);
			return {};
		}
		break;
	case Delivery::nmi:
	case Delivery::smi:
	case Delivery::init:
	case Delivery::startup: break;
	default: return {};
	}
	if (message.shorthand != Shorthand::self || message.delivery != Delivery::fixed)
		return {.kind = Effect::Kind::send, .message = message};
	if (identity().software_enabled)
		deliver(message.vector);
	return {};
}

} // namespace kvmpp::x86
