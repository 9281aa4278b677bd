// SPDX-License-Identifier: GPL-2.0-only
// The paravirtual clock: what a guest reads in the page that it registers, and what userspace gets
// and sets.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <asm/kvm_para.h>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

// The guest's view of the time (asm/pvclock-abi.h of the kernel, and what CPUID 0x40000001 tells).
struct TimeInfo {
	u32 version, pad;
	u64 tsc_timestamp, system_time;
	u32 tsc_to_system_mul;
	std::int8_t tsc_shift;
	u8 flags, pad2[2];

	u64 at(u64 tsc) const
	{
		u64 delta = tsc - tsc_timestamp;
		delta = tsc_shift >= 0 ? delta << tsc_shift : delta >> -tsc_shift;
		return system_time +
		       static_cast<u64>(
			       (static_cast<unsigned __int128>(delta) * tsc_to_system_mul) >> 32);
	}
};
static_assert(sizeof(TimeInfo) == 32);

struct WallClock {
	u32 version, seconds, nanoseconds;
};

constexpr u64 time_at = 0x11000, wall_at = 0x12000;

// Registers both pages, then tells its TSC in RAX with each halt.
GUEST_CODE(tell_time, 64, R"(
	mov $0x4b564d01, %ecx
	mov $0x11001, %eax
	xor %edx, %edx
	wrmsr
	mov $0x4b564d00, %ecx
	mov $0x12000, %eax
	wrmsr
1:	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	hlt
	jmp 1b
)");

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");

void need_clock()
{
	CpuidTable table = supported_cpuid();
	auto *features = table.find(KVM_CPUID_FEATURES);
	if (!features || !(features->eax & 1 << KVM_FEATURE_CLOCKSOURCE2))
		skip_test("no KVM_FEATURE_CLOCKSOURCE2 here");
}

u64 nanoseconds(clockid_t clock)
{
	timespec time;
	clock_gettime(clock, &time);
	return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

constexpr u64 millisecond = 1'000'000, second = 1'000'000'000;

} // namespace

TEST(the_clock_goes_with_time)
{
	need_clock();
	Guest guest{Mode::long_mode, tell_time};
	guest.run_to_halt();
	TimeInfo info = guest.value<TimeInfo>(time_at);
	CHECK(info.version > 0);
	CHECK_EQ(info.version % 2, 0u);
	CHECK(info.tsc_to_system_mul != 0);
	u64 first = info.at(guest.vcpu.regs().rax), began = nanoseconds(CLOCK_MONOTONIC_RAW);

	timespec pause{.tv_sec = 0, .tv_nsec = 200 * millisecond};
	nanosleep(&pause, nullptr);
	guest.run_to_halt();
	info = guest.value<TimeInfo>(time_at);
	u64 passed = info.at(guest.vcpu.regs().rax) - first;
	u64 elapsed = nanoseconds(CLOCK_MONOTONIC_RAW) - began;
	if (!CHECK(passed > elapsed * 95 / 100 && passed < elapsed * 105 / 100 + 5 * millisecond))
		note("the guest's clock went %ju us in %ju us", uintmax_t{passed / 1000},
			uintmax_t{elapsed / 1000});
}

TEST(the_clock_never_goes_back)
{
	need_clock();
	Guest guest{Mode::long_mode, tell_time};
	u64 before = 0;
	for (int i = 0; i < 200; ++i) {
		guest.run_to_halt();
		TimeInfo info = guest.value<TimeInfo>(time_at);
		u64 now = info.at(guest.vcpu.regs().rax);
		if (!CHECK(now >= before)) {
			note("from %ju to %ju", uintmax_t{before}, uintmax_t{now});
			break;
		}
		before = now;
	}
}

TEST(the_wall_clock_is_the_hosts)
{
	need_clock();
	Guest guest{Mode::long_mode, tell_time};
	guest.run_to_halt();
	auto wall = guest.value<WallClock>(wall_at);
	CHECK_EQ(wall.version % 2, 0u);
	CHECK(wall.nanoseconds < second);
	// What the page says is when the guest's clock was zero.
	u64 boot = wall.seconds * second + wall.nanoseconds;
	u64 now = boot + guest.value<TimeInfo>(time_at).at(guest.vcpu.regs().rax);
	i64 difference = static_cast<i64>(now - nanoseconds(CLOCK_REALTIME));
	if (!CHECK(std::llabs(difference) < static_cast<i64>(second)))
		note("off by %jd us", intmax_t{difference / 1000});
}

TEST(a_clock_that_is_off_is_not_written)
{
	need_clock();
	Guest guest{Mode::long_mode, halts};
	REQUIRE_EQ(guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, time_at), 1);
	guest.run_to_halt();
	CHECK_EQ(guest.value<u32>(time_at), 0u);
	REQUIRE_EQ(guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, time_at | 1), 1);
	guest.run_to_halt();
	CHECK(guest.value<u32>(time_at) != 0);
	CHECK_EQ(guest.vcpu.msr(MSR_KVM_SYSTEM_TIME_NEW), time_at | 1);
}

// A VMM saves and restores one number, whichever the guest has used.
TEST(either_number_tells_where_the_clock_is)
{
	need_clock();
	Guest guest{Mode::long_mode, tell_time};
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.msr(MSR_KVM_SYSTEM_TIME_NEW), time_at | 1);
	CHECK_EQ(guest.vcpu.msr(MSR_KVM_SYSTEM_TIME), time_at | 1);
	REQUIRE_EQ(guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME, 0), 1);
	CHECK_EQ(guest.vcpu.msr(MSR_KVM_SYSTEM_TIME_NEW), 0u);
	REQUIRE_EQ(guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME, time_at | 1), 1);
	memset(&guest.value<TimeInfo>(time_at), 0, sizeof(TimeInfo));
	guest.run_to_halt();
	CHECK(guest.value<TimeInfo>(time_at).tsc_to_system_mul != 0);
	CHECK_EQ(guest.vcpu.msr(MSR_KVM_SYSTEM_TIME_NEW), time_at | 1);
}

TEST(CVE_2013_1796_a_clock_across_pages)
{
	need_clock();
	Guest guest{Mode::long_mode, halts};
	for (u64 offset : {0xff0, 0xffc, 0xffe}) {
		guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, (time_at + offset) | 1);
		guest.run_to_halt();
	}
	// At the end of memory there is no second page at all.
	guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, (Guest::memory_size - 4) | 1);
	guest.run_to_halt();
	guest.vcpu.set_msr(MSR_KVM_WALL_CLOCK_NEW, Guest::memory_size - 4);
	guest.run_to_halt();
}

TEST(CVE_2013_1797_the_clock_s_memory_goes_away)
{
	need_clock();
	Guest guest{Mode::long_mode, halts};
	constexpr u64 window = 0x40000000;
	Backing other{page};
	REQUIRE_EQ(guest.vm.set_slot(1, window, page, other.bytes()), 0);
	REQUIRE_EQ(guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, window | 1), 1);
	guest.run_to_halt();
	CHECK(*reinterpret_cast<u32 *>(other.bytes()) != 0);
	REQUIRE_EQ(guest.vm.set_slot(1, 0, 0, nullptr), 0);
	memset(other.bytes(), 0, page);
	timespec pause{.tv_sec = 0, .tv_nsec = 20 * millisecond};
	nanosleep(&pause, nullptr);
	guest.run_to_halt();
	CHECK_EQ(*reinterpret_cast<u32 *>(other.bytes()), 0u);
	guest.vcpu.set_msr(MSR_KVM_SYSTEM_TIME_NEW, 0x7000000000 | 1);
	guest.run_to_halt();
}

TEST(userspace_sets_the_clock)
{
	Guest guest{Mode::long_mode, halts};
	NEED(guest.system, KVM_CAP_ADJUST_CLOCK);
	kvm_clock_data data{};
	data.clock = 5000 * second;
	REQUIRE_EQ(guest.vm.call(KVM_SET_CLOCK, &data), 0);
	kvm_clock_data back{};
	REQUIRE_EQ(guest.vm.call(KVM_GET_CLOCK, &back), 0);
	CHECK(back.clock >= 5000 * second);
	CHECK(back.clock < 5001 * second);
}

TEST(a_guest_sees_the_clock_that_was_set)
{
	need_clock();
	Guest guest{Mode::long_mode, tell_time};
	NEED(guest.system, KVM_CAP_ADJUST_CLOCK);
	guest.run_to_halt();
	kvm_clock_data data{};
	data.clock = 5000 * second;
	REQUIRE_EQ(guest.vm.call(KVM_SET_CLOCK, &data), 0);
	guest.run_to_halt();
	u64 now = guest.value<TimeInfo>(time_at).at(guest.vcpu.regs().rax);
	CHECK(now >= 5000 * second);
	CHECK(now < 5001 * second);
}

TEST(clock_flags_must_be_known)
{
	Guest guest{Mode::long_mode, halts};
	NEED(guest.system, KVM_CAP_ADJUST_CLOCK);
	kvm_clock_data data{};
	data.flags = 1u << 31;
	CHECK_EQ(guest.vm.call(KVM_SET_CLOCK, &data), -EINVAL);
	CHECK_EQ(guest.vm.call(KVM_SET_CLOCK, bad_pointer), -EFAULT);
	CHECK_EQ(guest.vm.call(KVM_GET_CLOCK, bad_pointer), -EFAULT);
}
