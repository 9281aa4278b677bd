// SPDX-License-Identifier: GPL-2.0-only
#include "run/page_log.h"

#include "machine/vm.h"
#include "run/handlers.h"

namespace kvmpp::run
{

namespace field = vmx::field;
using machine::PageLog;

void follow_page_log(Vcpu &vcpu, vmx::Current vmcs)
{
	const bool on = vcpu.vm.logs_pages();
	if (on && !vcpu.page_log.on)
		vmcs.write(field::page_log_index, PageLog::empty);
	vcpu.page_log.on = on;
	vcpu.secondary_controls.set_bits(vmcs, vmx::secondary::pml, on);
}

void empty_page_log(Vcpu &vcpu, vmx::Current vmcs)
{
	const u16 next = vmcs.read(field::page_log_index);
	if (next == PageLog::empty) [[likely]]
		return;
	machine::ReadSection section{vcpu.reader};
	const auto &slots = vcpu.vm.memory_map.read(section, vcpu.memory.space());
	const machine::MemorySlot *slot = nullptr;
	// In the order in which they were written. Of a full log the index has passed zero.
	const unsigned last = next < PageLog::entries ? next + 1 : 0;
	for (unsigned i = PageLog::entries; i-- > last;) {
		const Gfn gfn = frame_of(vcpu.page_log.at(i));
		if (!slot || !slot->contains(gfn))
			slot = slots.find_written(gfn);
		if (slot && slot->may_dirty(vcpu.dirty_ring))
			slot->mark_dirty(gfn, vcpu.dirty_ring);
	}
	vmcs.write(field::page_log_index, PageLog::empty);
}

// It is empty again; what was about to be written comes once more.
Result<After> handle_page_log_full(Exit &exit)
{
	constexpr u64 nmi_unblocked_by_iret = 1 << 12;
	if (exit.qualification() & nmi_unblocked_by_iret)
		exit.undo_nmi_unblocking();
	return After::reenter;
}

} // namespace kvmpp::run
