// SPDX-License-Identifier: GPL-2.0-only
#include "machine/io_bus.h"

#include <algorithm>

namespace kvmpp::machine
{

IoTable::IoTable(host::Array<IoRange> ranges) : ranges_{std::move(ranges)}
{
	for (const IoRange &range : ranges_)
		largest_ = std::max(largest_, range.size);
}

usize IoTable::first_after(u64 address) const
{
	const auto *first = std::ranges::upper_bound(ranges_, address, {}, &IoRange::base);
	return first - ranges_.begin();
}

Result<host::Own<IoTable>> IoBus::empty_table()
{
	return host::make<IoTable>(host::Array<IoRange>{});
}

void IoTable::forget(const IoDevice &device)
{
	for (IoRange &range : ranges_)
		if (range.owner() == &device)
			range.forget();
}

Result<> IoBus::add(u64 base, u64 size, IoDevice &device, bool any_context)
{
	host::Mutex::Guard guard{lock_};
	const auto old = table_.latest().all();
	const auto in_use = [](const IoRange &range) { return range.owner() != nullptr; };
	const usize kept = std::ranges::count_if(old, in_use);
	if (kept == max_ranges)
		return fail(ENOSPC);

	auto ranges = TRY(host::Array<IoRange>::create(kept + 1));
	const auto place = std::ranges::upper_bound(old, base, {}, &IoRange::base);
	IoRange *out = std::copy_if(old.begin(), place, ranges.begin(), in_use);
	*out++ = {base, size, &device, any_context};
	std::copy_if(place, old.end(), out, in_use);

	auto replaced = table_.replace(TRY(host::make<IoTable>(std::move(ranges))));
	if (any_context)
		begins_at_once_.fetch_or(trace_of(base));
	readers_.drain();
	return {};
}

void IoBus::remove(const IoDevice &device)
{
	host::Mutex::Guard guard{lock_};
	table_.latest().forget(device);
	readers_.drain();
}

} // namespace kvmpp::machine
