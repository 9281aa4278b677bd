// SPDX-License-Identifier: GPL-2.0-only
// The simulated host takes no lock out of its turn.
#include <gtest/gtest.h>
#include "host/lock.h"
#include "sim/thread.h"

namespace kvmpp::tests
{
namespace
{

using host::LockClass;
using host::Mutex;
using host::SpinLock;

TEST(LockOrder, LocksAreTakenDownwards)
{
	Mutex vm{LockClass::vm}, map{LockClass::memory_map};
	SpinLock chip{LockClass::ioapic};
	{
		Mutex::Guard first{vm};
		Mutex::Guard second{map};
		SpinLock::Guard third{chip};
		EXPECT_EQ(std::popcount(sim::this_thread().locks), 3);
	}
	EXPECT_EQ(sim::this_thread().locks, 0u);
}

TEST(LockOrderDeathTest, NeverUpwards)
{
	Mutex vm{LockClass::vm}, map{LockClass::memory_map};
	const auto upwards = [&] {
		Mutex::Guard first{map};
		Mutex::Guard second{vm};
	};
	EXPECT_DEATH(upwards(), "vm is taken while memory_map is held");
}

TEST(LockOrderDeathTest, NeverTwoOfOneClass)
{
	host::RwLock one{LockClass::ept}, other{LockClass::ept};
	const auto both = [&] {
		host::RwLock::ReadGuard first{one};
		host::RwLock::ReadGuard second{other};
	};
	EXPECT_DEATH(both(), "ept is taken while ept is held");
}

} // namespace
} // namespace kvmpp::tests
