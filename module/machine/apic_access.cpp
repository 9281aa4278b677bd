// SPDX-License-Identifier: GPL-2.0-only
#include "machine/apic_access.h"

#include "machine/vm.h"

namespace kvmpp::machine
{

// As with an invalidation (vm_memory.cpp): a fault looks under the table lock whether the page is hidden, and
// hiding takes that lock after saying so. So it is mapped before it is unmapped, or not at all.
Result<Vm::Fault> Vm::map_apic_access(Vcpu &vcpu)
{
	TRY(vcpu.page_cache.fill());
	host::RwLock::ReadGuard guard{tables_lock_};
	if (apic_access.hidden())
		return Fault::no_memory_there;
	const mmu::Mapping mapping{
		.gfn = ApicAccess::frame, .pfn = frame_of(apic_access.physical()), .writable = true};
	const auto installed = vcpu.tables().map(vcpu.page_cache, mapping);
	return installed == mmu::Ept::Installed::done ? Fault::mapped : Fault::blocked;
}

void Vm::unmap_apic_access(AddressSpace space)
{
	if (mmu::Ept *const ept = existing_tables(space))
		unmap(*ept, ApicAccess::frame, ApicAccess::frame + 1, false);
}

void Vm::hide_apic_access()
{
	apic_access.hide();
	unmap_apic_access(AddressSpace::normal);
	unmap_apic_access(AddressSpace::smm);
}

void Vm::show_apic_access()
{
	apic_access.show();
}

// The VMM's memory comes before it.
void Vm::slot_added(const MemorySlot &slot)
{
	if (apic_access && slot.contains(ApicAccess::frame))
		unmap_apic_access(slot.space);
}

void Vcpu::follow_apic_access()
{
	const bool hides = vm.apic_access && !uses_apic_access();
	if (hides == hides_apic_access_)
		return;
	hides_apic_access_ = hides;
	if (hides)
		vm.hide_apic_access();
	else
		vm.show_apic_access();
}

} // namespace kvmpp::machine
