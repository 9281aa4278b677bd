// SPDX-License-Identifier: GPL-2.0-only
// A set of CPUs, for calls that go to several.
#pragma once

#include <array>
#include "host/seam.h"

namespace kvmpp::host
{

class CpuMask {
    public:
	void add(unsigned cpu)
	{
		if (cpu < KVMPP_MAX_CPUS)
			words_[cpu / 64] |= 1ul << cpu % 64;
	}
	const unsigned long *words() const { return words_.data(); }

    private:
	std::array<unsigned long, KVMPP_MAX_CPUS / 64> words_{};
};

} // namespace kvmpp::host
