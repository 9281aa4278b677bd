// SPDX-License-Identifier: GPL-2.0-only
// Memory accesses of an emulated instruction that no RAM answers: the local APIC, devices of the
// module, and at last the VMM.
#pragma once

#include "machine/vcpu.h"

namespace kvmpp::run
{

class DeviceAccess {
    public:
	explicit DeviceAccess(machine::Vcpu &vcpu) : vcpu_{vcpu} { vcpu.io.taken = 0; }

	// What became of an access, in pieces of at most 8 bytes.
	enum class Served : u8 {
		yes,
		ask_vmm, // kvm_run is filled
		full,	 // more pieces than can be remembered
	};
	Served read(Gpa address, void *data, unsigned size);
	// What the current instruction has read there already. False: nothing, or not all of it.
	bool recall(Gpa address, void *data, unsigned size);
	// A write is remembered for the VMM, or full, and then nothing of it has happened.
	Served write(Gpa address, const void *data, unsigned size);

	// What the instruction did to the local APIC's task priority, if it did.
	enum class TprAccess : u8 { none, read, write };
	TprAccess tpr_access() const { return tpr_access_; }

    private:
	bool read_here(machine::IoFragment &fragment);
	bool write_here(const machine::IoFragment &fragment);
	// What there is at the local APIC's address.
	enum class ApicPage : u8 { elsewhere, registers, hole };
	ApicPage apic_page(Gpa address) const;

	machine::Vcpu &vcpu_;
	TprAccess tpr_access_ = TprAccess::none;
};

} // namespace kvmpp::run
