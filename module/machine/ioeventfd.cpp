// SPDX-License-Identifier: GPL-2.0-only
#include "machine/ioeventfd.h"

#include <utility>
#include "machine/eventfd.h"

namespace kvmpp::machine
{
namespace
{

u64 value_of(std::span<const u8> data)
{
	u64 value = 0;
	__builtin_memcpy(&value, data.data(), data.size());
	return value;
}

} // namespace

class IoEventFds::Entry final : public IoDevice, host::Pinned {
    public:
	Entry(EventFd eventfd, const kvm_ioeventfd &request)
		: eventfd_{std::move(eventfd)}, request_{request}
	{
	}

	bool read(u64, std::span<u8>) override { return false; }
	bool write(u64 address, std::span<const u8> data) override
	{
		if (address != request_.addr || (request_.len && data.size() != request_.len))
			return false;
		if (matches_data() && value_of(data) != request_.datamatch)
			return false;
		eventfd_.signal();
		return true;
	}

	// Whether one write could concern both.
	bool collides(const kvm_ioeventfd &other) const
	{
		if (request_.addr != other.addr || bus() != (other.flags & bus_flags))
			return false;
		if (request_.len && other.len && request_.len != other.len)
			return false;
		const bool other_matches = other.flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
		return !matches_data() || !other_matches || request_.datamatch == other.datamatch;
	}
	bool is(const EventFd &eventfd, const kvm_ioeventfd &request) const
	{
		constexpr u32 compared = bus_flags | KVM_IOEVENTFD_FLAG_DATAMATCH;
		return eventfd_ == eventfd && request_.addr == request.addr &&
		       request_.len == request.len &&
		       (request_.flags & compared) == (request.flags & compared) &&
		       (!matches_data() || request_.datamatch == request.datamatch);
	}
	u32 bus() const { return request_.flags & bus_flags; }
	u64 address() const { return request_.addr; }
	// A wildcard takes a write of any length at its address.
	u64 length() const { return request_.len ? request_.len : 1; }

	Entry *next = nullptr;

    private:
	static constexpr u32 bus_flags = KVM_IOEVENTFD_FLAG_PIO;

	bool matches_data() const { return request_.flags & KVM_IOEVENTFD_FLAG_DATAMATCH; }

	const EventFd eventfd_;
	const kvm_ioeventfd request_;
};

IoEventFds::~IoEventFds()
{
	while (first_) {
		host::Own<Entry> entry{std::exchange(first_, first_->next)};
		ports_.remove(*entry);
		mmio_.remove(*entry);
	}
}

IoBus &IoEventFds::bus_of(const kvm_ioeventfd &request)
{
	return request.flags & KVM_IOEVENTFD_FLAG_PIO ? ports_ : mmio_;
}

Result<> IoEventFds::check(const kvm_ioeventfd &request)
{
	constexpr u32 known = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			      KVM_IOEVENTFD_FLAG_DEASSIGN;
	u64 end;
	if (request.flags & ~known || __builtin_add_overflow(request.addr, request.len, &end))
		return fail(EINVAL);
	switch (request.len) {
	case 0:
		// Data of no particular length have no particular value.
		if (request.flags & KVM_IOEVENTFD_FLAG_DATAMATCH)
			return fail(EINVAL);
		return {};
	case 1:
	case 2:
	case 4:
	case 8: return {};
	default: return fail(EINVAL);
	}
}

Result<> IoEventFds::assign(const kvm_ioeventfd &request)
{
	TRY(check(request));
	auto entry = TRY(host::make<Entry>(TRY(EventFd::get(request.fd)), request));
	host::Mutex::Guard guard{lock_};
	for (const Entry *other = first_; other; other = other->next)
		if (other->collides(request))
			return fail(EEXIST);
	TRY(bus_of(request).add(
		entry->address(), entry->length(), *entry, kvmpp_eventfd_signals_atomically));
	entry->next = first_;
	first_ = entry.release();
	return {};
}

Result<> IoEventFds::deassign(const kvm_ioeventfd &request)
{
	TRY(check(request));
	const auto eventfd = TRY(EventFd::get(request.fd));
	host::Mutex::Guard guard{lock_};
	for (Entry **link = &first_; *link; link = &(*link)->next) {
		if (!(*link)->is(eventfd, request))
			continue;
		host::Own<Entry> entry{*link};
		*link = entry->next;
		bus_of(request).remove(*entry);
		return {};
	}
	return fail(ENOENT);
}

} // namespace kvmpp::machine
