// SPDX-License-Identifier: GPL-2.0-only
#include "machine/irqfd.h"

#include <utility>
#include "machine/eventfd.h"

namespace kvmpp::machine
{

// One eventfd and its GSI. An edge is a pulse; a level stays until the guest has finished the interrupt,
// and then the VMM is told, so that it raises it again if there still is reason to.
class IrqFds::Entry final : AcknowledgeListener, host::Pinned {
    public:
	Entry(IrqFds &owner, EventFd eventfd, u32 line, std::optional<EventFd> resample)
		: owner_{owner}, eventfd_{std::move(eventfd)}, gsi_{line}, resample_{std::move(resample)}
	{
		if (resample_)
			owner.interrupts_.listen(line, *this);
	}
	~Entry()
	{
		if (watching_)
			kvmpp_eventfd_watch_stop(&watch_);
		if (resample_) {
			owner_.interrupts_.remove(*this);
			owner_.interrupts_.set_line(gsi_, IrqSource::resample, false);
		}
	}

	Result<> watch(int fd)
	{
		static constexpr kvmpp_eventfd_calls calls{
			.signalled = [](void *entry) { static_cast<Entry *>(entry)->signalled(); },
			.hung_up =
				[](void *context) {
					auto *entry = static_cast<Entry *>(context);
					entry->owner_.hung_up(*entry);
				},
		};
		TRY(result_of(kvmpp_eventfd_watch_start(&watch_, fd, &calls, this)));
		watching_ = true;
		return {};
	}
	// From hung_up, which a stop would wait for.
	void end_watch()
	{
		kvmpp_eventfd_watch_end(&watch_);
		watching_ = false;
	}

	bool is(const EventFd &eventfd) const { return eventfd_ == eventfd; }
	bool same_eventfd(const Entry &other) const { return is(other.eventfd_); }
	u32 number() const { return gsi_; }
	Entry *following = nullptr; // in the list of all

    private:
	void signalled()
	{
		if (resample_) {
			owner_.interrupts_.set_line(gsi_, IrqSource::resample, true);
			return;
		}
		owner_.interrupts_.set_line(gsi_, IrqSource::userspace, true);
		owner_.interrupts_.set_line(gsi_, IrqSource::userspace, false);
	}

	void acknowledged() override
	{
		owner_.interrupts_.set_line(gsi_, IrqSource::resample, false);
		resample_->signal();
	}

	IrqFds &owner_;
	const EventFd eventfd_;
	const u32 gsi_;
	const std::optional<EventFd> resample_;
	kvmpp_eventfd_watch watch_;
	bool watching_ = false;
};

void IrqFds::remove_all()
{
	for (;;) {
		host::Own<Entry> entry;
		{
			host::Mutex::Guard guard{lock_};
			if (!first_)
				return;
			entry = host::Own<Entry>{std::exchange(first_, first_->following)};
		}
	}
}

Result<> IrqFds::assign(const kvm_irqfd &request)
{
	constexpr u32 known = KVM_IRQFD_FLAG_RESAMPLE | KVM_IRQFD_FLAG_DEASSIGN;
	if (request.flags & ~known || request.gsi >= RoutingTable::max_routes)
		return fail(EINVAL);
	if (!interrupts_.has_lapics())
		return fail(EAGAIN);
	std::optional<EventFd> resample;
	if (request.flags & KVM_IRQFD_FLAG_RESAMPLE) {
		// Only chips here know when a level-triggered interrupt is over.
		if (!interrupts_.chips())
			return fail(EINVAL);
		resample = TRY(EventFd::get(request.resamplefd));
	}
	auto entry = TRY(host::make<Entry>(
		*this, TRY(EventFd::get(request.fd)), request.gsi, std::move(resample)));

	host::Mutex::Guard guard{lock_};
	for (const Entry *other = first_; other; other = other->following)
		if (other->same_eventfd(*entry))
			return fail(EBUSY);
	TRY(entry->watch(request.fd));
	entry->following = first_;
	first_ = entry.release();
	return {};
}

Result<> IrqFds::deassign(const kvm_irqfd &request)
{
	const auto eventfd = TRY(EventFd::get(request.fd));
	host::Own<Entry> gone;
	host::Mutex::Guard guard{lock_};
	for (Entry **link = &first_; *link; link = &(*link)->following) {
		if (!(*link)->is(eventfd) || (*link)->number() != request.gsi)
			continue;
		gone = host::Own<Entry>{*link};
		*link = gone->following;
		break;
	}
	return {};
}

// The eventfd's last descriptor is closed. Whoever unlinks an entry ends it.
void IrqFds::hung_up(Entry &entry)
{
	{
		host::Mutex::Guard guard{lock_};
		Entry **link = &first_;
		while (*link && *link != &entry)
			link = &(*link)->following;
		if (!*link)
			return;
		*link = entry.following;
	}
	entry.end_watch();
	host::Own<Entry>{&entry};
}

} // namespace kvmpp::machine
