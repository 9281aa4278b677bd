// SPDX-License-Identifier: GPL-2.0-only
// A VM's making and end, its vCPUs and devices. Its memory: vm_memory.cpp.
#include "machine/vm.h"

#include <algorithm>
#include "host/file.h"

namespace kvmpp::machine
{

namespace
{

// 4 GiB in pages of 4 MiB, present, writable, user, accessed and dirty.
Result<host::Page> identity_directory()
{
	constexpr u32 entry = 0xe7, entries = 1024;
	host::Page page = TRY(host::Page::create());
	for (u32 i = 0; i < entries; ++i)
		page.as<u32>()[i] = i << 22 | entry;
	return page;
}

} // namespace

Vm::Vm(Hypervisor &owner, Parts parts)
	: hypervisor{owner}, memory_map{std::move(parts.slots), std::move(parts.smm_slots), readers, *this},
	  ports{std::move(parts.ports), readers}, mmio{std::move(parts.mmio), readers},
	  coalesced{ports, mmio, std::move(parts.coalesced)}, interrupts{*this, std::move(parts.routes)},
	  apic_access{std::move(parts.apic_access)},
	  ept_{std::move(parts.ept_root), ept_features(owner), *this},
	  identity_{std::move(parts.identity)},
	  notifier_reader_{readers}, msr_filter_{std::move(parts.msr_filter)}
{
}

mmu::Ept::Features Vm::ept_features(Hypervisor &hypervisor)
{
	const auto &capabilities = hypervisor.engine().capabilities();
	return {.large_2m = capabilities.ept_2m(),
		.large_1g = capabilities.ept_1g(),
		.accessed_dirty = capabilities.ept_accessed_dirty(),
		.page_log = hypervisor.logs_pages()};
}

Result<Vm *> Vm::create(Hypervisor &hypervisor)
{
	// One by one: a TRY that returns out of a braced list leaves what the list has made undestroyed.
	Parts parts;
	parts.slots = TRY(MemoryMap::empty_table());
	parts.smm_slots = TRY(MemoryMap::empty_table());
	parts.ports = TRY(IoBus::empty_table());
	parts.mmio = TRY(IoBus::empty_table());
	parts.routes = TRY(RoutingTable::empty());
	parts.msr_filter = TRY(host::make<MsrFilter>());
	parts.coalesced = TRY(host::Page::create());
	parts.ept_root = TRY(host::Page::create());
	if (!hypervisor.unrestricted())
		parts.identity = TRY(identity_directory());
	if (hypervisor.engine().controls().virtualizes_apic_accesses())
		parts.apic_access = TRY(host::Page::create());
	auto vm = TRY(host::make<Vm>(hypervisor, std::move(parts)));
	TRY(hypervisor.engine().acquire());
	vm->holds_engine_ = true;
	TRY(result_of(kvmpp_mm_watch_start(&vm->mm_watch_, vm.get())));
	vm->watches_mm_ = true;
	vm->show_in_debugfs(hypervisor.vm_created());
	vm->announced_ = true;
	return vm.release();
}

// Named after the process and the how-manieth VM it is.
void Vm::show_in_debugfs(u64 number)
{
	char name[32];
	kvmpp_format(name, sizeof(name), "%d-%llu", creator_, number);
	debugfs_ = kvmpp_debugfs_directory(name);
	kvmpp_debugfs_counters(debugfs_, "vm", &counters_);
}

void Vm::show_in_debugfs(const Vcpu &vcpu)
{
	char name[32];
	kvmpp_format(name, sizeof(name), "vcpu%u", vcpu.id);
	kvmpp_debugfs_counters(debugfs_, name, &vcpu.counters);
}

Vm::~Vm()
{
	kvmpp_debugfs_remove(debugfs_);
	if (announced_)
		hypervisor.vm_destroyed(creator_);
	// After this nobody but us knows the tables.
	if (watches_mm_)
		kvmpp_mm_watch_stop(&mm_watch_);
	irqfds.remove_all();
	interrupts.stop();
	vcpus.destroy_all();
	host::Own<mmu::Ept>{smm_ept_.load(std::memory_order_relaxed)};
	if (holds_engine_)
		hypervisor.engine().release();
}

void Vm::put()
{
	if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
		host::Own<Vm>{this};
}

Result<long> Vm::create_vcpu(u64 id)
{
	host::Mutex::Guard guard{lock_};
	if (id >= id_limit_ || vcpus.count() == VcpuSet::max_vcpus)
		return fail(EINVAL);
	if (vcpus.find(id))
		return fail(EEXIST);
	TRY(vcpus.reserve());
	auto vcpu = TRY(Vcpu::create(*this, id));
	auto file = TRY(host::NewFile::for_vcpu(vcpu.get(), id));
	show_in_debugfs(*vcpu);
	vcpus.add(std::move(vcpu));
	// The file's reference.
	get();
	return file.install();
}

Result<> Vm::set_halt_poll_limit(u64 limit)
{
	if (limit > bits(31, 0))
		return fail(EINVAL);
	halt_poll_limit_.store(limit, std::memory_order_relaxed);
	return {};
}

Result<> Vm::set_id_limit(u64 limit)
{
	if (!limit || limit > VcpuSet::max_id)
		return fail(EINVAL);
	host::Mutex::Guard guard{lock_};
	if (id_limit_ == limit)
		return {};
	if (vcpus.count() > 0 || id_limit_ != VcpuSet::max_id)
		return fail(EINVAL);
	id_limit_ = limit;
	return {};
}

Result<> Vm::set_bsp(u64 id)
{
	if (id >= VcpuSet::max_id)
		return fail(EINVAL);
	host::Mutex::Guard guard{lock_};
	if (vcpus.count() > 0)
		return fail(EBUSY);
	bsp_ = id;
	return {};
}

Result<> Vm::create_irqchip()
{
	host::Mutex::Guard guard{lock_};
	// Those that exist have no local APIC.
	if (vcpus.count() > 0 && !interrupts.has_lapics())
		return fail(EINVAL);
	return interrupts.create_chips();
}

Result<> Vm::split_irqchip(u64 pins)
{
	host::Mutex::Guard guard{lock_};
	if (vcpus.count() > 0 && !interrupts.has_lapics())
		return fail(EINVAL);
	return interrupts.split(pins);
}

Result<> Vm::create_pit(bool speaker)
{
	host::Mutex::Guard guard{lock_};
	return interrupts.create_pit(speaker);
}

Result<> Vm::set_x2apic_api(u64 flags)
{
	// That broadcasts are told apart by 32 bits is so in any case.
	constexpr u64 known =
		KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	if (flags & ~known)
		return fail(EINVAL);
	if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
		wide_apic_ids_ = true;
	return {};
}

void Vm::set_msr_filter(host::Own<MsrFilter> filter, bool active)
{
	host::Own<MsrFilter> old;
	{
		host::Mutex::Guard guard{lock_};
		old = msr_filter_.replace(std::move(filter));
		VmOptions changed = options();
		changed.filters_msrs = active;
		options_ = changed;
	}
	request_all(Request::msr_filter);
	readers.drain();
}

bool Vm::filter_allows_msr(Vcpu &vcpu, u32 index, u32 access) const
{
	if (x86::is_x2apic_msr(index))
		return true;
	ReadSection section{vcpu.reader};
	return msr_filter_.read(section).allows(index, access);
}

void Vm::note_apic_id(const Vcpu &vcpu)
{
	const x86::Identity identity = vcpu.lapic->identity();
	if (!identity.x2apic && identity.xapic_id != vcpu.id)
		apic_ids_changed_ = true;
}

void Vm::yield_from(const Vcpu &by)
{
	const u32 count = vcpus.count(), last = yielded_to_.load(std::memory_order_relaxed);
	unsigned tries = 3; // each may take locks of the scheduler's
	for (u32 i = 1; i <= count && tries > 0; ++i) {
		const u32 place = (last + i) % count;
		Vcpu &other = vcpus.at(place);
		if (&other == &by || !other.residency.away())
			continue;
		--tries;
		if (other.thread.yield_to()) {
			yielded_to_.store(place, std::memory_order_relaxed);
			return;
		}
	}
	kvmpp_cond_resched();
}

Result<> Vm::set_tss_address(u64 address)
{
	// Three pages below 4 GiB. With unrestricted guests nobody needs them.
	if (address > 0x100000000 - 3 * page_size)
		return fail(EINVAL);
	return {};
}

Result<> Vm::set_identity_map_address(u64 address)
{
	host::Mutex::Guard guard{lock_};
	if (vcpus.count() > 0 || address % page_size || address >> 32)
		return fail(EINVAL);
	identity_map_ = Gpa{address ? address : default_identity_map};
	return {};
}

Result<> Vm::set_tsc_khz(u32 khz)
{
	const u32 host_khz = kvmpp_tsc_khz();
	if (khz == 0)
		khz = host_khz;
	GuestTsc probe;
	TRY(probe.set_khz(khz, hypervisor.scales_tsc()));
	tsc_khz_ = khz;
	return {};
}

u64 Vm::tsc_offset_for(const GuestTsc &tsc, u64 value)
{
	return restored_tsc_offset_.with([&](std::optional<u64> &last) {
		if (!last)
			last = -tsc.scaled(first_tsc_);
		// Zero is what VMMs write to say "all in step", whenever they come to it.
		if (value == 0)
			return *last;
		const u64 second = u64{tsc.khz()} * 1000;
		const u64 exact = tsc.offset_for(value);
		const u64 distance = exact > *last ? exact - *last : *last - exact;
		if (std::min(distance, -distance) > second)
			last = exact;
		return *last;
	});
}

void Vm::request_all(Request what)
{
	vcpus.for_each([what](Vcpu &vcpu) { vcpu.mailbox.request_and_kick(what); });
}

} // namespace kvmpp::machine
