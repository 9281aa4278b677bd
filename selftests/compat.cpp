// SPDX-License-Identifier: GPL-2.0-only
// What is special to callers of 32 bits on a kernel of 64. Built for 32 bits only; other programs are
// built for both.
#include <cerrno>
#include <sys/wait.h>
#include <unistd.h>
#include "guest.h"

using namespace kvmpp::selftests;

static_assert(sizeof(void *) == 4);

namespace
{

constexpr u64 log_pages = Guest::memory_size / page;

// Touches pages 16, 18 and 81.
GUEST_CODE(writes, 64, R"(
	movb $1, 0x10000
	movb $1, 0x12000
	movb $1, 0x51000
	hlt
)");

struct Logged : Guest {
	Logged() : Guest(Mode::long_mode, writes)
	{
		// The slot of the guest again, with a log.
		REQUIRE_EQ(vm.set_slot(0, 0, memory_size, memory.bytes(), KVM_MEM_LOG_DIRTY_PAGES),
			0);
	}

	// A caller of 32 bits sets its pointer, and leaves what lies above it as it was.
	int log(void *to, u32 above)
	{
		kvm_dirty_log request{};
		request.slot = 0;
		request.padding2 = u64{above} << 32;
		request.dirty_bitmap = to;
		return vm.call(KVM_GET_DIRTY_LOG, &request);
	}

	int clear(void *what, u64 first, u32 count, u32 above)
	{
		kvm_clear_dirty_log request{};
		request.slot = 0;
		request.num_pages = count;
		request.first_page = first;
		request.padding2 = u64{above} << 32;
		request.dirty_bitmap = what;
		return vm.call(KVM_CLEAR_DIRTY_LOG, &request);
	}

	u64 bitmap[log_pages / 64]{};
};

constexpr u64 bit(unsigned number)
{
	return u64{1} << number;
}

} // namespace

TEST(the_dirty_log_goes_to_a_pointer_of_32_bits)
{
	for (u32 above : {0u, 1u, 0x80000000u, ~0u}) {
		Logged guest;
		guest.run_to_halt();
		REQUIRE_EQ(guest.log(guest.bitmap, above), 0);
		CHECK_EQ(guest.bitmap[0] & (bit(16) | bit(17) | bit(18)), bit(16) | bit(18));
		CHECK_EQ(guest.bitmap[1], bit(81 - 64));
		REQUIRE_EQ(guest.log(guest.bitmap, above), 0);
		CHECK_EQ(guest.bitmap[1], 0u);
	}
}

TEST(the_dirty_log_is_cleared_from_a_pointer_of_32_bits)
{
	System system;
	NEED(system, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	for (u32 above : {0u, 1u, ~0u}) {
		Logged guest;
		kvm_enable_cap manual{};
		manual.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
		manual.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
		REQUIRE_EQ(guest.vm.call(KVM_ENABLE_CAP, &manual), 0);
		guest.run_to_halt();
		u64 one = bit(81 - 64);
		REQUIRE_EQ(guest.clear(&one, 64, 64, above), 0);
		REQUIRE_EQ(guest.log(guest.bitmap, above), 0);
		CHECK_EQ(guest.bitmap[0] & bit(16), bit(16));
		CHECK_EQ(guest.bitmap[1], 0u);
	}
}

TEST(bad_pointers_are_refused)
{
	Logged guest;
	void *nowhere = const_cast<void *>(bad_pointer);
	CHECK_EQ(guest.log(nowhere, 0), -EFAULT);
	CHECK_EQ(guest.log(nowhere, ~0u), -EFAULT);
	CHECK_EQ(guest.clear(nowhere, 0, 64, 0), -EFAULT);
	CHECK_EQ(guest.vm.call(KVM_GET_DIRTY_LOG, bad_pointer), -EFAULT);
	CHECK_EQ(guest.vm.call(KVM_CLEAR_DIRTY_LOG, bad_pointer), -EFAULT);
	// The highest addresses are the kernel's in every program.
	void *highest = reinterpret_cast<void *>(0xfffff000);
	CHECK_EQ(guest.log(highest, 0), -EFAULT);
	CHECK_EQ(guest.vm.call(KVM_SET_USER_MEMORY_REGION, highest), -EFAULT);
}

TEST(arguments_that_are_no_pointers_keep_their_upper_bit)
{
	System system;
	Vm vm{system};
	CHECK_EQ(vm.call(KVM_SET_TSS_ADDR, 0xfffbd000u), 0);
	CHECK_EQ(vm.call(KVM_SET_TSS_ADDR, 0xfffff000u), -EINVAL);
	CHECK_EQ(vm.call(KVM_CREATE_VCPU, 0xffffffffu), -EINVAL);
	CHECK_EQ(vm.call(KVM_CHECK_EXTENSION, 0xffffffffu), 0);
}

TEST(another_process_is_refused_as_ever)
{
	Logged guest;
	pid_t child = fork();
	if (child == 0)
		_exit(guest.log(guest.bitmap, 0) == -EIO ? 0 : 1);
	int status = -1;
	waitpid(child, &status, 0);
	CHECK_EQ(status, 0);
}
