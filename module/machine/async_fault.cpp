// SPDX-License-Identifier: GPL-2.0-only
#include "machine/async_fault.h"

#include <cstddef>

namespace kvmpp::machine
{

bool AsyncFaults::set_msr(u64 value, const GuestMemory &memory)
{
	// As page faults of a guest's own guests they are not offered.
	constexpr u64 reserved = 0x30 | KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT;
	const bool on = (value & switched_on) == switched_on;
	if (value & reserved || (on && !memory.is_ram(Gpa{value & ~u64{0x3f}})))
		return false;
	msr_ = value;
	forget();
	tell_all_ = on;
	if (on)
		mailbox_.request(Request::async_fault);
	return true;
}

bool AsyncFaults::set_vector(u64 value)
{
	if (value >> 8)
		return false;
	vector_ = value;
	return true;
}

void AsyncFaults::reset()
{
	msr_ = 0;
	vector_ = 0;
	tell_all_ = false;
	forget();
}

// They are under way as before, and count.
void AsyncFaults::forget()
{
	if (!pages_)
		return;
	for (Page &page : *pages_)
		page.token = nobody_waits;
}

// Any thread: while this runs the page is not forgotten.
void AsyncFaults::page_is_there(void *which)
{
	Page &page = *static_cast<Page *>(which);
	Mailbox &mailbox = page.owner->mailbox_;
	page.there.store(true, std::memory_order_release);
	mailbox.request_and_kick(Request::async_fault);
}

AsyncFaults::Page *AsyncFaults::free_page()
{
	if (!pages_) {
		auto made = host::make<Pages>();
		if (!made)
			return nullptr;
		pages_ = std::move(*made);
	}
	for (Page &page : *pages_) {
		if (page.token == nobody_waits && page.there.load(std::memory_order_acquire))
			page.page_in = {};
		if (!page.page_in)
			return &page;
	}
	return nullptr;
}

AsyncFaults::Page *AsyncFaults::ready_page()
{
	for (unsigned i = 0; pages_ && i < max_pages; ++i) {
		const unsigned place = (next_ + i) % max_pages;
		Page &page = (*pages_)[place];
		if (page.token == nobody_waits || !page.there.load(std::memory_order_acquire))
			continue;
		next_ = place + 1;
		return &page;
	}
	return nullptr;
}

// Another one for each, on all processors of the guest; neither nobody's nor everybody's.
u32 AsyncFaults::next_token()
{
	constexpr u32 numbers = (1 << 20) - 2;
	last_number_ = last_number_ % numbers + 1;
	return last_number_ << 12 | (vcpu_id_ & 0xfff);
}

std::optional<u32> AsyncFaults::start(const GuestMemory &memory, Hva address, bool write)
{
	const Gpa flags = place(offsetof(kvm_vcpu_pv_apf_data, flags));
	Page *page = free_page();
	if (!page)
		return {};
	// The guest clears it when it has seen it.
	u64 seen = 0;
	if (memory.compare_exchange(flags, sizeof(u32), seen, KVM_PV_REASON_PAGE_NOT_PRESENT) !=
		x86::Replaced::yes)
		return {};
	page->owner = this;
	page->there.store(false, std::memory_order_relaxed);
	auto started = host::PageIn::start(address, write, page_is_there, page);
	if (!started) {
		constexpr u32 none = 0;
		(void)memory.write(flags, &none, sizeof(none)).has_value();
		return {};
	}
	page->page_in = std::move(*started);
	page->token = next_token();
	return page->token;
}

bool AsyncFaults::report(const GuestMemory &memory)
{
	const Gpa place_of_token = place(offsetof(kvm_vcpu_pv_apf_data, token));
	Page *page = tell_all_ ? nullptr : ready_page();
	if (!page && !tell_all_)
		return false;
	// Zero when the guest has acknowledged what was there.
	u64 acknowledged = 0;
	const u32 token = page ? page->token : all_are_there;
	if (memory.compare_exchange(place_of_token, sizeof(u32), acknowledged, token) != x86::Replaced::yes)
		return false;
	tell_all_ = false;
	if (page) {
		page->page_in = {};
		page->token = nobody_waits;
	}
	return true;
}

} // namespace kvmpp::machine
