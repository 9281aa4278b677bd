// SPDX-License-Identifier: GPL-2.0-only
// Devices that the module itself serves, by port or by guest-physical address.
#pragma once

#include <span>
#include "machine/published.h"

namespace kvmpp::machine
{

// Served on the vCPU's thread, inside a read section. False: not mine after all; others are asked,
// at last the VMM. At most 8 bytes.
class IoDevice {
    public:
	virtual bool read(u64 address, std::span<u8> data) = 0;
	virtual bool write(u64 address, std::span<const u8> data) = 0;

    protected:
	~IoDevice() = default;
};

// A device that is removed leaves its range behind, without a device, until the next is added: to
// remove one must not fail.
struct IoRange {
	u64 base = 0, size = 0;
	IoDevice *device = nullptr;
	bool any_context = false; // a write may be offered with interrupts off

	IoDevice *owner() const { return __atomic_load_n(&device, __ATOMIC_RELAXED); }
	void forget() { __atomic_store_n(&device, nullptr, __ATOMIC_RELAXED); }
	bool contains(u64 address) const { return address - base < size; }
};

class IoTable {
    public:
	explicit IoTable(host::Array<IoRange> ranges);
	std::span<const IoRange> all() const { return ranges_.span(); }
	void forget(const IoDevice &device);

	// Offers an access to each device at the address until one takes it; or to those alone that take it
	// in any context, and only if there are no others.
	template <class Offer>
	bool offer(u64 address, Offer &&offer, bool any_context_only = false) const
	{
		for (usize i = first_after(address); i-- > 0;) {
			const IoRange &range = ranges_[i];
			if (range.base + largest_ <= address)
				break;
			IoDevice *device = range.owner();
			if (!device || !range.contains(address))
				continue;
			if (any_context_only && !range.any_context)
				return false;
			if (offer(*device))
				return true;
		}
		return false;
	}

    private:
	usize first_after(u64 address) const;

	host::Array<IoRange> ranges_; // by base
	u64 largest_ = 0;
};

class IoBus : host::Pinned {
    public:
	static constexpr usize max_ranges = 1000; // as KVM's bus

	static Result<host::Own<IoTable>> empty_table();
	IoBus(host::Own<IoTable> table, Readers &readers) : readers_{readers}, table_{std::move(table)} {}

	// Any thread; may sleep. ENOSPC: the bus is full; ENOMEM. The device outlives its range. any_context:
	// its writes do not sleep and need no interrupts.
	Result<> add(u64 base, u64 size, IoDevice &device, bool any_context = false);
	// After it returns the device is not called any more. May sleep.
	void remove(const IoDevice &device);

	// True: a device of the module took it. `data` holds at most 8 bytes.
	bool read(const ReadSection &section, u64 address, std::span<u8> data) const
	{
		return table_.read(section).offer(address,
			[&](IoDevice &device) { return device.read(address, data); });
	}
	bool write(const ReadSection &section, u64 address, std::span<const u8> data) const
	{
		return table_.read(section).offer(address,
			[&](IoDevice &device) { return device.write(address, data); });
	}

	// The same with interrupts off, for a device that begins there. False: nobody took it, or it is for one
	// that wants them on.
	bool write_at_once(const ReadSection &section, u64 address, std::span<const u8> data) const
	{
		return table_.read(section).offer(
			address, [&](IoDevice &device) { return device.write(address, data); }, true);
	}
	// Whether write_at_once() is worth a try: mostly not.
	bool may_write_at_once(u64 address) const
	{
		return begins_at_once_.load(std::memory_order_relaxed) & trace_of(address);
	}

    private:
	static constexpr u64 trace_of(u64 base) { return bit((base ^ base >> 6) % 64); }

	Readers &readers_;
	// Of each such device that there has been, one bit by its address.
	std::atomic<u64> begins_at_once_{0};
	host::Mutex lock_{host::LockClass::io_bus};
	Published<IoTable> table_;
};

} // namespace kvmpp::machine
