// SPDX-License-Identifier: GPL-2.0-only
// APIC virtualization of the simulated processor. SDM vol. 3, chapter 30.
#pragma once

#include <optional>
#include "sim/vtx/vmcs.h"
#include "x86/devices/apic_page.h"

namespace kvmpp::sim::vtx
{

class VirtualApic {
public:
	explicit VirtualApic(Vmcs &vmcs) : vmcs_{vmcs} {}

	bool delivers() const; // virtual-interrupt delivery is on
	bool has_x2apic() const;
	// Memory accesses of the guest are accesses to the APIC: 30.4. Then whether the processor does them from
	// the page (30.4.2, 30.4.3.1), or exits.
	bool takes_accesses() const;
	bool is_access_page(u64 host) const;
	bool virtualizes(u32 offset, usize size, bool write) const;
	u8 *at(u32 offset) const { return reinterpret_cast<u8 *>(place(vmcs_, offset)); }

	static u32 read(const Vmcs &vmcs, x86::ApicRegister name) { return *place(vmcs, static_cast<u32>(name)); }
	u32 read(x86::ApicRegister name) const { return read(vmcs_, name); }
	void write(x86::ApicRegister name, u32 value) { *place(vmcs_, static_cast<u32>(name)) = value; }

	// VM entry with that control: PPR follows from what the VMCS says.
	void virtualize_ppr();
	// The vector that the guest takes now, if nothing else is in its way (30.2.2).
	std::optional<u8> deliver();
	// The vector that was ended; whether that exits.
	struct Ended {
		u8 vector;
		bool exits;
	};
	Ended end();
	void request(u8 vector);
	// TPR was written: whether it fell below the threshold.
	bool below_threshold() const;

private:
	static u32 *place(const Vmcs &vmcs, u32 offset);
	void assign(x86::ApicRegister base, u8 vector, bool value);
	u8 highest(x86::ApicRegister base) const;

	Vmcs &vmcs_;
};

} // namespace kvmpp::sim::vtx
