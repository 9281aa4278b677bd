// SPDX-License-Identifier: GPL-2.0-only
// The APIC-access page (SDM vol. 3, 30.4): where the extended page tables show it, at the address that an
// xAPIC has after RESET, the processor takes the guest's accesses by itself, or exits and says at which
// register. What the page holds does not matter; a VM has its own, for page walks of the guest may reach it.
//
// The tables belong to all vCPUs, and for one whose APIC is in another mode, or elsewhere, the page would be
// memory. So as long as there is any such vCPU nobody sees the page, and accesses are those to any device.
#pragma once

#include <atomic>
#include "host/memory.h"
#include "x86/devices/lapic.h"

namespace kvmpp::machine
{

class ApicAccess : host::Pinned {
    public:
	static constexpr Gfn frame{x86::apic_base::default_address >> page_shift};

	explicit ApicAccess(host::Page page) : page_{std::move(page)} {}

	// There is a page: the processor can.
	explicit operator bool() const { return static_cast<bool>(page_); }
	Hpa physical() const { return page_.physical(); }

	bool hidden() const { return hiding_.load() > 0; }
	void hide() { hiding_.fetch_add(1); }
	void show() { hiding_.fetch_sub(1); }

    private:
	const host::Page page_;
	std::atomic<u32> hiding_{0}; // vCPUs that must not see it
};

} // namespace kvmpp::machine
