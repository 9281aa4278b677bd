// SPDX-License-Identifier: GPL-2.0-only
// A local APIC: how interrupts come in, and how the guest takes and finishes them.
#include "x86/devices/lapic.h"

namespace kvmpp::x86
{

namespace
{
// 0 to 15 are exceptions' (SDM vol. 3, 11.5.2).
constexpr u8 first_legal_vector = 16;
} // namespace

Result<host::Own<Lapic>> Lapic::create(u32 id, Callback<void()> wake, u64 min_timer_period)
{
	host::Page page = TRY(host::Page::create());
	return host::make<Lapic>(std::move(page), id, wake, min_timer_period);
}

Lapic::Lapic(host::Page &&page, u32 id, Callback<void()> wake, u64 min_timer_period)
	: id_{id}, page_{std::move(page)}, wake_{wake}, timer_{callback<&Lapic::timer_expired>(
								       *this),
								min_timer_period}
{
	reset(false, false);
}

int Lapic::accept(const Message &message)
{
	switch (message.delivery) {
	case Delivery::fixed:
	case Delivery::lowest_priority:
		if (message.level && !message.asserted)
			return delivery_ignored;
		return accept_vector(message.vector, message.level);
	case Delivery::nmi: raise(event_nmi); return 1;
	case Delivery::smi: raise(event_smi); return 1;
	case Delivery::init:
		// Level de-assert only synchronized arbitration IDs (SDM vol. 3, 11.6.1).
		if (message.level && !message.asserted)
			return delivery_ignored;
		raise(event_init);
		return 1;
	case Delivery::startup: startup(message.vector); return 1;
	case Delivery::extint: // the PIC is asked by the one who accepts_pic()
	case Delivery::remote_read: break;
	}
	return delivery_ignored;
}

int Lapic::accept_vector(u8 vector, bool level)
{
	if (!identity().software_enabled)
		return delivery_ignored;
	if (vector < first_legal_vector) {
		raise(event_illegal_vector);
		return delivery_ignored;
	}
	// Before it is posted: the owner may move it to IRR at once. TMR likewise, for its EOI.
	const bool requested = page_.test(ApicRegister::irr, vector);
	page_.assign_shared(ApicRegister::tmr, vector, level);
	const PostedInterrupts::Outcome outcome = page_.posted().post(vector);
	if (outcome.notify)
		wake_();
	return requested || outcome.coalesced ? delivery_coalesced : 1;
}

bool Lapic::local_interrupt(LocalSource source)
{
	const u32 entry = page_.load(static_cast<u32>(source));
	if ((entry & lvt_masked) || !identity().hardware_enabled)
		return false;
	const auto delivery = static_cast<Delivery>(entry >> 8 & 7);
	if (delivery != Delivery::fixed && delivery != Delivery::nmi && delivery != Delivery::init &&
		delivery != Delivery::smi)
		return false;
	// The processor masks it as it delivers (SDM vol. 3, 11.5.1).
	if (source == LocalSource::performance)
		page_.store(static_cast<u32>(source), entry | lvt_masked);
	accept({.vector = static_cast<u8>(entry), .delivery = delivery});
	return true;
}

bool Lapic::accepts_pic() const
{
	if (!identity().hardware_enabled)
		return true;
	const u32 entry = page_.read(ApicRegister::lvt_lint0);
	return !(entry & lvt_masked) && static_cast<Delivery>(entry >> 8 & 7) == Delivery::extint;
}

void Lapic::raise(u32 event)
{
	u32 old = events_.load(std::memory_order_relaxed), wanted;
	do {
		wanted = old | event;
		// A SIPI that waits was for the processor before its INIT.
		if (event & event_init)
			wanted &= ~(event_startup | 0xffu << startup_vector_shift);
	} while (!events_.compare_exchange_weak(old, wanted));
	if (event & ~old)
		wake_();
}

void Lapic::startup(u8 vector)
{
	const u32 event = event_startup | u32{vector} << startup_vector_shift;
	u32 old = events_.load(std::memory_order_relaxed);
	do {
		// The first of several starts the processor, the others find it started.
		if (old & event_startup)
			return;
	} while (!events_.compare_exchange_weak(old, old | event));
	wake_();
}

void Lapic::timer_expired()
{
	raise(event_timer);
}

Lapic::Events Lapic::collect()
{
	take_posted();
	if (!events_.load(std::memory_order_relaxed))
		return {};
	const u32 events = events_.exchange(0);
	if (events & event_timer)
		deliver_timer();
	if (events & event_illegal_vector)
		error(error_receive_illegal);
	return {
		.nmi = (events & event_nmi) != 0,
		.smi = (events & event_smi) != 0,
		.init = (events & event_init) != 0,
		.startup = (events & event_startup) != 0,
		.startup_vector = static_cast<u8>(events >> startup_vector_shift),
	};
}

void Lapic::take_posted()
{
	if (page_.posted().pending())
		page_.posted().take(
			[this](unsigned word, u64 vectors) { irr_.merge(word, vectors); });
}

std::optional<Lapic::Eoi> Lapic::end_of_interrupt()
{
	const u8 vector = isr_.highest();
	if (!vector)
		return {};
	isr_.clear(vector);
	return ended(vector);
}

Lapic::Eoi Lapic::ended(u8 vector) const
{
	const bool level = level_triggered(vector);
	return {vector, level, level && broadcasts_eoi()};
}

// An interrupt of the APIC's own, edge-triggered, which the owner delivers.
void Lapic::deliver(u8 vector)
{
	if (vector < first_legal_vector)
		return error(error_receive_illegal);
	page_.assign_shared(ApicRegister::tmr, vector, false);
	irr_.set(vector);
}

void Lapic::deliver_timer()
{
	timer_.acknowledge();
	const u32 entry = page_.read(ApicRegister::lvt_timer);
	if (!(entry & lvt_masked))
		deliver(static_cast<u8>(entry));
}

void Lapic::let_processor_watch_deadline()
{
	hold_timer();
	timer_.let_processor_watch();
	timer_.resume();
}

void Lapic::let_host_watch_deadline(const TscMoment &moment)
{
	hold_timer();
	if (timer_.let_host_watch(moment))
		deliver_timer();
	timer_.resume();
}

void Lapic::expire_deadline(u64 tsc)
{
	if (timer_.expire_deadline(tsc))
		deliver_timer();
}

void Lapic::hold_timer()
{
	timer_.hold();
	if (events_.load(std::memory_order_relaxed) & event_timer) {
		events_.fetch_and(~event_timer);
		deliver_timer();
	}
}

void Lapic::error(u32 bit)
{
	if (errors_ & bit)
		return;
	errors_ |= bit;
	const u32 entry = page_.read(ApicRegister::lvt_error);
	if (entry & lvt_masked)
		return;
	// Its own vector may be the illegal one; then the bit is set already, or is now.
	deliver(static_cast<u8>(entry));
}

} // namespace kvmpp::x86
