// SPDX-License-Identifier: GPL-2.0-only
// Pages that a guest does not wait for. Told of one that the host has to bring first, by a #PF with a token
// in CR2, it does something else until an interrupt says that the page is there. KVM's paravirtual
// MSR_KVM_ASYNC_PF_EN, _INT and _ACK, with the interrupt alone: "ready" by #PF is KVM's past.
// Belongs to the vCPU's thread, but for what threads of the host's report; may sleep.
#pragma once

#include <array>
#include <asm/kvm_para.h>
#include <atomic>
#include <optional>
#include "host/memory.h"
#include "host/user_memory.h"
#include "machine/guest_memory.h"
#include "machine/mailbox.h"

namespace kvmpp::machine
{

class AsyncFaults : host::Pinned {
    public:
	// Under way at once, those included that the guest wants to hear of no longer.
	static constexpr unsigned max_pages = 64;

	// Told of a page that is there by Request::async_fault.
	AsyncFaults(Mailbox &mailbox, u32 vcpu_id) : mailbox_{mailbox}, vcpu_id_{vcpu_id} {}

	bool enabled() const { return (msr_ & switched_on) == switched_on; }
	// Whether a guest that runs at privilege level 0 is told, too.
	bool in_kernel_mode() const { return msr_ & KVM_ASYNC_PF_SEND_ALWAYS; }
	u64 msr() const { return msr_; }
	u8 vector() const { return vector_; }
	// What was under way is forgotten; a guest that switches this on, or is restored with it on, is told
	// that everything is there. False, and nothing has changed: reserved bits are set, or no RAM is there.
	bool set_msr(u64 value, const GuestMemory &memory);
	bool set_vector(u64 value);
	void reset();

	// Has a page brought in, and says in the guest's memory that the #PF to come is not the processor's.
	// The token for its CR2, or none: the guest has to wait for the page after all.
	std::optional<u32> start(const GuestMemory &memory, Hva address, bool write);
	// Writes the token of a page that is there to the guest's memory. False: there is none, or the guest
	// has not acknowledged the last one yet.
	bool report(const GuestMemory &memory);

    private:
	static constexpr u64 switched_on = KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT;
	static constexpr u32 all_are_there = ~u32{0}, nobody_waits = 0;

	struct Page {
		AsyncFaults *owner = nullptr;
		std::atomic<bool> there{false};
		host::PageIn page_in;
		u32 token = nobody_waits;
	};
	using Pages = std::array<Page, max_pages>;

	static void page_is_there(void *page);
	Page *free_page();
	Page *ready_page();
	void forget();
	u32 next_token();
	Gpa place(usize offset) const { return Gpa{msr_ & ~u64{0x3f}} + offset; }

	Mailbox &mailbox_;
	const u32 vcpu_id_;
	u64 msr_ = 0; // a guest-physical address with flags in its lower bits
	u8 vector_ = 0;
	bool tell_all_ = false; // that everything is there
	u32 last_number_ = 0;
	unsigned next_ = 0; // where the search for a page that is there goes on: each has its turn
	host::Own<Pages> pages_; // made when the first one is needed
};

} // namespace kvmpp::machine
