// SPDX-License-Identifier: GPL-2.0-only
// Operations that the guest does and measures itself.
#include <sys/eventfd.h>
#include "kvmpp/bench/addresses.h"
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/bench/measuring.h"
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

using lib::u64;
using namespace measuring;

Measure in_guest(const std::byte *routine, u64 argument)
{
	return [=](Context &context) {
		BenchGuest &guest = context.guest();
		// Fills caches of translations and the like.
		guest.measure(routine, 1, argument);
		return median([&] { return guest.measure(routine, batch, argument) / batch; });
	};
}

u64 port_write_to_ioeventfd(Context &context)
{
	const lib::FileDescriptor event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	kvm_ioeventfd assignment{};
	assignment.addr = BENCH_EVENT_PORT;
	assignment.len = sizeof(lib::u32);
	assignment.fd = event.number();
	assignment.flags = KVM_IOEVENTFD_FLAG_PIO;
	need(context.guest().machine().assign(assignment));
	const u64 ticks = in_guest(kvmpp_bench_port_write, BENCH_EVENT_PORT)(context);
	assignment.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	need(context.guest().machine().assign(assignment));
	return ticks;
}

// Each batch faults on memory that is new to the guest.
Measure ept_fault(bool populated)
{
	return [=](Context &context) {
		BenchGuest &guest = context.guest();
		constexpr u64 warm_up = 1;
		return median([&] {
			auto memory = need(lib::Mapping::shared_memory((batch + warm_up) * page));
			if (populated)
				std::ranges::fill(memory.bytes(), std::byte{1});
			need(guest.machine().add_memory(
				extra_slot, BENCH_EXTRA_MEMORY, std::move(memory)));
			// The first fault also makes the tables above.
			guest.measure(kvmpp_bench_touch, warm_up, BENCH_EXTRA_MEMORY);
			const u64 ticks = guest.measure(
				kvmpp_bench_touch, batch, BENCH_EXTRA_MEMORY + warm_up * page);
			need(guest.machine().remove_memory(extra_slot));
			return ticks / batch;
		});
	};
}

} // namespace kvmpp::command
