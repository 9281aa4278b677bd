// SPDX-License-Identifier: GPL-2.0-only
// Dirty logging: what the guest pays for a write, and what its VMM pays to hear of it.
#include <vector>
#include <x86intrin.h>
#include "kvmpp/bench/addresses.h"
#include "kvmpp/bench/guest_code.h"
#include "kvmpp/bench/measuring.h"
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

using lib::u64;
using namespace measuring;

namespace
{

constexpr u64 logged_pages = 1024;

// Memory beside the guest's own that is logged, and that the guest has written once.
class Logged {
public:
	explicit Logged(BenchGuest &guest) : guest_{guest}
	{
		auto memory = need(lib::Mapping::shared_memory(logged_pages * page));
		need(guest_.machine().add_memory(
			extra_slot, BENCH_EXTRA_MEMORY, std::move(memory), KVM_MEM_LOG_DIRTY_PAGES));
		write();
		get();
	}
	~Logged() { (void)guest_.machine().remove_memory(extra_slot).has_value(); }

	// All pages once, by the guest. Its ticks.
	u64 write() { return guest_.measure(kvmpp_bench_touch, logged_pages, BENCH_EXTRA_MEMORY); }
	// They have to be dirty, and are clean then. Its ticks.
	u64 get()
	{
		kvm_dirty_log log{};
		log.slot = extra_slot;
		log.dirty_bitmap = bitmap_.data();
		_mm_lfence();
		const u64 start = __rdtsc();
		const int result = ::ioctl(guest_.machine().file().number(), KVM_GET_DIRTY_LOG, &log);
		_mm_lfence();
		const u64 ticks = __rdtsc() - start;
		if (result < 0)
			throw Refusal{lib::Error{"KVM_GET_DIRTY_LOG", errno}.message()};
		for (const u64 word : bitmap_)
			if (word != ~u64{0})
				throw Refusal{"a page that was written is not dirty"};
		return ticks;
	}

private:
	BenchGuest &guest_;
	std::vector<u64> bitmap_ = std::vector<u64>(logged_pages / 64);
};

} // namespace

u64 logged_write(Context &context)
{
	Logged logged{context.guest()};
	return median([&] {
		const u64 ticks = logged.write();
		logged.get();
		return ticks / logged_pages;
	});
}

u64 get_dirty_page(Context &context)
{
	Logged logged{context.guest()};
	return median([&] {
		logged.write();
		return logged.get() / logged_pages;
	});
}

} // namespace kvmpp::command
