// SPDX-License-Identifier: GPL-2.0-only
// The time of this machine, in seconds, and the end of waiting.
#pragma once

#include <ctime>

namespace kvmpp::qemu
{

inline double seconds_of(clockid_t clock)
{
	timespec time{};
	clock_gettime(clock, &time);
	return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

inline double now()
{
	return seconds_of(CLOCK_MONOTONIC);
}

class Deadline {
public:
	explicit Deadline(double seconds) : at_(now() + seconds) {}

	bool passed() const { return now() >= at_; }

	// For poll().
	int milliseconds_left() const
	{
		double left = (at_ - now()) * 1000;
		return left > 0 ? static_cast<int>(left) + 1 : 0;
	}

private:
	double at_;
};

} // namespace kvmpp::qemu
