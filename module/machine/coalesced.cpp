// SPDX-License-Identifier: GPL-2.0-only
#include "machine/coalesced.h"

#include <utility>

namespace kvmpp::machine
{
namespace
{

constexpr u32 ring_size = (page_size - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);

} // namespace

class CoalescedWrites::Zone final : public IoDevice, host::Pinned {
    public:
	Zone(CoalescedWrites &owner, const kvm_coalesced_mmio_zone &zone) : owner_{owner}, zone_{zone} {}

	bool read(u64, std::span<u8>) override { return false; }
	bool write(u64 address, std::span<const u8> data) override
	{
		// All of it, or it is the VMM's.
		return holds(address, data.size()) && owner_.append(address, data, port());
	}

	bool holds(u64 address, u64 size) const
	{
		const u64 offset = address - zone_.addr;
		return offset <= zone_.size && size <= zone_.size - offset;
	}
	bool port() const { return zone_.pio; }
	u64 address() const { return zone_.addr; }
	u64 size() const { return zone_.size; }

	Zone *next = nullptr;

    private:
	CoalescedWrites &owner_;
	const kvm_coalesced_mmio_zone zone_;
};

CoalescedWrites::CoalescedWrites(IoBus &ports, IoBus &mmio, host::Page ring)
	: ports_{ports}, mmio_{mmio}, ring_{std::move(ring)}
{
}

CoalescedWrites::~CoalescedWrites()
{
	while (first_) {
		host::Own<Zone> zone{std::exchange(first_, first_->next)};
		bus_of(zone->port()).remove(*zone);
	}
}

// The indices lie in memory that the VMM may scribble on at any time: each is read once, and believed
// only as far as it stays in the ring (CVE-2019-14821).
bool CoalescedWrites::append(u64 address, std::span<const u8> data, bool port)
{
	auto &ring = *ring_.as<kvm_coalesced_mmio_ring>();
	host::SpinLock::Guard guard{ring_lock_};
	const u32 last = __atomic_load_n(&ring.last, __ATOMIC_RELAXED);
	const u32 first = __atomic_load_n(&ring.first, __ATOMIC_ACQUIRE);
	const u32 next = (last + 1) % ring_size;
	if (last >= ring_size || next == first)
		return false;

	kvm_coalesced_mmio &entry = ring.coalesced_mmio[last];
	entry.phys_addr = address;
	entry.len = static_cast<u32>(data.size());
	entry.pio = port;
	__builtin_memcpy(entry.data, data.data(), data.size());
	__atomic_store_n(&ring.last, next, __ATOMIC_RELEASE);
	return true;
}

Result<> CoalescedWrites::add(const kvm_coalesced_mmio_zone &request)
{
	if (request.pio > 1)
		return fail(EINVAL);
	auto zone = TRY(host::make<Zone>(*this, request));
	host::Mutex::Guard guard{lock_};
	TRY(bus_of(request.pio).add(zone->address(), zone->size(), *zone));
	zone->next = first_;
	first_ = zone.release();
	return {};
}

Result<> CoalescedWrites::remove(const kvm_coalesced_mmio_zone &request)
{
	if (request.pio > 1)
		return fail(EINVAL);
	host::Mutex::Guard guard{lock_};
	for (Zone **link = &first_; *link;) {
		Zone *zone = *link;
		if (zone->port() != (request.pio != 0) || !zone->holds(request.addr, request.size)) {
			link = &zone->next;
			continue;
		}
		*link = zone->next;
		bus_of(zone->port()).remove(*zone);
		host::Own<Zone>{zone};
	}
	return {};
}

} // namespace kvmpp::machine
