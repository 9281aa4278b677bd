// SPDX-License-Identifier: GPL-2.0-only
// Guest memory at work: faults, and changes to slots and to their backing under a running guest,
// which have taken effect when the call that makes them returns.
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

// Where the tests put memory of their own, in slot 1.
constexpr u64 window = 0x40000000, window_size = 64 * page;

GUEST_CODE(touch_pages, 64, R"(
	mov $0x40000000, %edi
	xor %ecx, %ecx
1:	mov (%rdi), %eax
	add %eax, %ebx
	mov %ecx, 4(%rdi)
	add $4096, %rdi
	inc %ecx
	cmp $64, %ecx
	jb 1b
	hlt
)");

GUEST_CODE(read_once, 64,
	"mov 0x40000000, %eax\n hlt\n mov 0x40000000, %eax\n hlt\n"
	"mov 0x40000000, %eax\n hlt");
GUEST_CODE(write_once, 64, "mov $0x40000000, %edi\n movl $7, (%rdi)\n hlt\n movl $8, (%rdi)\n hlt");
GUEST_CODE(write_then_read, 64, "mov $0x40000000, %edi\n movl $7, (%rdi)\n mov (%rdi), %ebx\n hlt");
GUEST_CODE(run_there, 64, "mov $0x40000000, %edi\n call *%rdi\n hlt");
GUEST_CODE(return_5, 64, "mov $5, %ebx\n ret");
GUEST_CODE(add_locked, 64, "mov $0x40000000, %edi\n lock addl $5, (%rdi)\n mov (%rdi), %ebx\n hlt");
GUEST_CODE(read_high, 64, "mov $0xc0000000, %edi\n mov (%rdi), %ebx\n hlt");

// Reads the window for ever; what it read last is at `data`, and how often it read at `data` + 8.
GUEST_CODE(read_for_ever, 64, R"(
	sti
1:	mov 0x40000000, %eax
	mov %eax, 0x10000
	incq 0x10008
	jmp 1b
)");
GUEST_CODE(write_for_ever, 64, R"(
	sti
	mov $0x40000000, %edi
1:	incl (%rdi)
	incq 0x10008
	jmp 1b
)");

struct Fixture : Guest {
	explicit Fixture(const Code &code) : Guest(Mode::long_mode, code)
	{
		ignore_interruptions();
		REQUIRE_EQ(vm.set_slot(1, window, window_size, backing.bytes()), 0);
	}

	Backing backing{window_size};
};

// A fixture whose guest runs in a second thread until it is told to stop or KVM_RUN fails.
struct Running : Fixture {
	explicit Running(const Code &code) : Fixture(code) { memset(backing.bytes(), 0x11, page); }

	void wait_for_progress() const
	{
		auto count = [this] {
			return __atomic_load_n(&value<u64>(at::data + 8), __ATOMIC_ACQUIRE);
		};
		for (u64 before = count(); count() - before < 100;)
			usleep(1000);
	}
	u32 last_read() const { return __atomic_load_n(&value<u32>(at::data), __ATOMIC_ACQUIRE); }
	void stop()
	{
		stopping = true;
		while (!stopped) {
			thread.interrupt();
			usleep(1000);
		}
		thread.join();
	}
	void wait_for_end() const
	{
		while (!stopped)
			usleep(1000);
	}

	std::atomic<bool> stopping = false, stopped = false;
	std::atomic<int> answer = 0;
	Thread thread{[](void *what) {
			      auto *self = static_cast<Running *>(what);
			      int last;
			      do
				      last = self->vcpu.enter();
			      while (last == -EINTR && !self->stopping);
			      self->answer = last;
			      self->stopped = true;
		      },
		this};
};

} // namespace

TEST(pages_are_there_when_they_are_touched)
{
	Fixture fixture{touch_pages};
	for (u64 i = 0; i < window_size / page; ++i)
		memcpy(fixture.backing.bytes() + i * page, "\1", 1);
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rbx, window_size / page);
	for (u64 i = 0; i < window_size / page; ++i)
		CHECK_EQ(fixture.backing.bytes()[i * page + 4], i);
}

TEST(memory_is_shared_both_ways)
{
	Fixture fixture{write_then_read};
	fixture.run_to_halt();
	CHECK_EQ(*fixture.backing.bytes(), 7);
}

TEST(guests_run_from_any_slot)
{
	Fixture fixture{run_there};
	memcpy(fixture.backing.bytes(), return_5.begin, return_5.size());
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rbx, 5u);
}

TEST(first_access_may_be_a_locked_one)
{
	Fixture fixture{add_locked};
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rbx, 5u);
}

TEST(slots_may_alias)
{
	Fixture fixture{read_high};
	REQUIRE_EQ(fixture.vm.set_slot(2, 0xc0000000, page, fixture.backing.bytes()), 0);
	*fixture.backing.bytes() = 9;
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rbx, 9u);
}

TEST(a_deleted_slot_is_a_device)
{
	Fixture fixture{read_once};
	*fixture.backing.bytes() = 3;
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 3u);
	REQUIRE_EQ(fixture.vm.set_slot(1, 0, 0, nullptr), 0);
	CHECK_EXIT(fixture, KVM_EXIT_MMIO);
	CHECK_EQ(fixture.vcpu->mmio.phys_addr, window);
	memcpy(fixture.vcpu->mmio.data, "\4\0\0\0", 4);
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 4u);
	REQUIRE_EQ(fixture.vm.set_slot(1, window, page, fixture.backing.bytes()), 0);
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 3u);
}

TEST(a_moved_slot_is_where_it_went)
{
	Fixture fixture{read_once};
	fixture.run_to_halt();
	REQUIRE_EQ(
		fixture.vm.set_slot(1, window + 0x100000, window_size, fixture.backing.bytes()), 0);
	CHECK_EXIT(fixture, KVM_EXIT_MMIO);
	memset(fixture.vcpu->mmio.data, 0, 8);
	fixture.run_to_halt();
	*fixture.backing.bytes() = 6;
	REQUIRE_EQ(fixture.vm.set_slot(1, window, window_size, fixture.backing.bytes()), 0);
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 6u);
}

TEST(writes_to_a_read_only_slot_are_a_device_s)
{
	Fixture fixture{write_then_read};
	NEED(fixture.system, KVM_CAP_READONLY_MEM);
	REQUIRE_EQ(fixture.vm.set_slot(1, 0, 0, nullptr), 0);
	REQUIRE_EQ(
		fixture.vm.set_slot(1, window, page, fixture.backing.bytes(), KVM_MEM_READONLY), 0);
	*fixture.backing.bytes() = 5;
	CHECK_EXIT(fixture, KVM_EXIT_MMIO);
	CHECK_EQ(fixture.vcpu->mmio.is_write, 1);
	CHECK_EQ(fixture.vcpu->mmio.phys_addr, window);
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rbx, 5u);
}

TEST(backing_that_may_not_be_read_faults)
{
	Fixture fixture{read_once};
	REQUIRE(mprotect(fixture.backing.bytes(), page, PROT_NONE) == 0);
	CHECK_EQ(fixture.vcpu.enter(), -EFAULT);
	CHECK_EQ(fixture.vcpu.enter(), -EFAULT);
	REQUIRE(mprotect(fixture.backing.bytes(), page, PROT_READ) == 0);
	fixture.run_to_halt();
}

TEST(backing_that_may_not_be_written_faults)
{
	Fixture fixture{write_once};
	REQUIRE(mprotect(fixture.backing.bytes(), page, PROT_READ) == 0);
	CHECK_EQ(fixture.vcpu.enter(), -EFAULT);
	REQUIRE(mprotect(fixture.backing.bytes(), page, PROT_READ | PROT_WRITE) == 0);
	fixture.run_to_halt();
	CHECK_EQ(*fixture.backing.bytes(), 7);
}

TEST(backing_that_is_not_mapped_faults)
{
	Fixture fixture{read_once};
	fixture.run_to_halt();
	REQUIRE(munmap(fixture.backing.bytes(), page) == 0);
	CHECK_EQ(fixture.vcpu.enter(), -EFAULT);
}

TEST(backing_beyond_its_file_faults)
{
	Fixture fixture{read_once};
	Fd file{memfd_create("backing", MFD_CLOEXEC)};
	REQUIRE(ftruncate(file.number(), page) == 0);
	REQUIRE(mmap(fixture.backing.bytes(), page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			file.number(), 0) != MAP_FAILED);
	*fixture.backing.bytes() = 2;
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 2u);
	REQUIRE(ftruncate(file.number(), 0) == 0);
	CHECK_EQ(fixture.vcpu.enter(), -EFAULT);
}

TEST(copy_on_write_shows_the_copy)
{
	// Read first: the guest sees the shared page of zeros. Then the process writes.
	Fixture fixture{read_once};
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 0u);
	*fixture.backing.bytes() = 0x42;
	fixture.run_to_halt();
	CHECK_EQ(fixture.vcpu.regs().rax, 0x42u);
}

TEST(the_page_of_zeros_stays_so)
{
	Fixture fixture{write_once};
	static_cast<void>(*static_cast<volatile u8 *>(fixture.backing.bytes()));
	fixture.run_to_halt();
	Backing fresh{page};
	CHECK_EQ(*fresh.bytes(), 0);
	CHECK_EQ(*fixture.backing.bytes(), 7);
}

TEST(discarded_backing_is_gone_when_madvise_returns)
{
	Running fixture{read_for_ever};
	fixture.wait_for_progress();
	CHECK_EQ(fixture.last_read(), 0x11111111u);
	for (int i = 0; i < 5; ++i) {
		REQUIRE(madvise(fixture.backing.bytes(), page, MADV_DONTNEED) == 0);
		fixture.wait_for_progress();
		CHECK_EQ(fixture.last_read(), 0u);
		memset(fixture.backing.bytes(), 0x22 + i, page);
		fixture.wait_for_progress();
		CHECK_EQ(fixture.last_read() & 0xff, 0x22u + static_cast<unsigned>(i));
	}
	fixture.stop();
}

TEST(protected_backing_is_not_written_after_mprotect_returns)
{
	Running fixture{write_for_ever};
	fixture.wait_for_progress();
	REQUIRE(mprotect(fixture.backing.bytes(), page, PROT_READ) == 0);
	u32 after, later;
	memcpy(&after, fixture.backing.bytes(), sizeof after);
	fixture.wait_for_end();
	memcpy(&later, fixture.backing.bytes(), sizeof later);
	CHECK_EQ(later, after);
	CHECK_EQ(fixture.answer.load(), -EFAULT);
	fixture.thread.join();
}

TEST(unmapped_backing_is_gone_when_munmap_returns)
{
	Running fixture{read_for_ever};
	fixture.wait_for_progress();
	REQUIRE(munmap(fixture.backing.bytes(), page) == 0);
	fixture.wait_for_end();
	CHECK_EQ(fixture.answer.load(), -EFAULT);
	fixture.thread.join();
}

TEST(remapped_backing_is_seen_when_mmap_returns)
{
	Running fixture{read_for_ever};
	fixture.wait_for_progress();
	Backing other{page};
	memset(other.bytes(), 0x33, page);
	REQUIRE(mremap(other.bytes(), page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
			fixture.backing.bytes()) != MAP_FAILED);
	fixture.wait_for_progress();
	CHECK_EQ(fixture.last_read(), 0x33333333u);
	fixture.stop();
}

TEST(a_slot_is_gone_when_its_deletion_returns)
{
	Running fixture{read_for_ever};
	fixture.wait_for_progress();
	REQUIRE_EQ(fixture.vm.set_slot(1, 0, 0, nullptr), 0);
	fixture.wait_for_end();
	CHECK_EQ(fixture.answer.load(), 0);
	CHECK_EQ(fixture.vcpu->exit_reason, static_cast<u32>(KVM_EXIT_MMIO));
	fixture.thread.join();
}

TEST(slots_come_and_go_beside_a_running_guest)
{
	Running fixture{read_for_ever};
	Backing other{page};
	for (int i = 0; i < 100; ++i) {
		REQUIRE_EQ(fixture.vm.set_slot(2, 0xc0000000, page, other.bytes()), 0);
		REQUIRE_EQ(fixture.vm.set_slot(2, 0, 0, nullptr), 0);
	}
	fixture.wait_for_progress();
	CHECK_EQ(fixture.last_read(), 0x11111111u);
	fixture.stop();
}

TEST(huge_pages_back_a_guest)
{
	constexpr u64 size = 4 << 20, huge = 2 << 20;
	Guest guest{Mode::long_mode, read_once};
	Backing space{size + huge};
	u8 *aligned = reinterpret_cast<u8 *>(
		(reinterpret_cast<u64>(space.bytes()) + huge - 1) & ~(huge - 1));
	madvise(aligned, size, MADV_HUGEPAGE);
	memset(aligned, 0x44, size);
	REQUIRE_EQ(guest.vm.set_slot(1, window, size, aligned), 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rax, 0x44444444u);
	// A part of it goes: the rest stays, this part is new.
	REQUIRE(madvise(aligned, page, MADV_DONTNEED) == 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rax, 0u);
}

TEST(a_huge_page_reaches_no_further_than_its_slot)
{
	constexpr u64 huge = 2 << 20;
	Guest guest{Mode::long_mode, read_once};
	Backing space{2 * huge};
	u8 *aligned = reinterpret_cast<u8 *>(
		(reinterpret_cast<u64>(space.bytes()) + huge - 1) & ~(huge - 1));
	madvise(aligned, huge, MADV_HUGEPAGE);
	memset(aligned, 0x44, huge);
	// The first page of the 2 MiB is in no slot.
	REQUIRE_EQ(guest.vm.set_slot(1, window + page, huge - page, aligned + page), 0);
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	CHECK_EQ(guest.vcpu->mmio.phys_addr, window);
}

TEST(CVE_2021_22543_memory_without_pages_behind_it)
{
	Guest guest{Mode::long_mode, read_once};
	Fd mem{open("/dev/mem", O_RDONLY | O_CLOEXEC)};
	void *legacy = mmap(nullptr, page, PROT_READ, MAP_SHARED, mem.number(), 0xf0000);
	if (mem.number() < 0 || legacy == MAP_FAILED)
		skip_test("no /dev/mem here");
	u32 expected;
	memcpy(&expected, legacy, sizeof expected);
	REQUIRE_EQ(guest.vm.set_slot(1, window, page, legacy), 0);
	guest.run_to_halt();
	CHECK_EQ(guest.vcpu.regs().rax, expected);
	REQUIRE(munmap(legacy, page) == 0);
	CHECK_EQ(guest.vcpu.enter(), -EFAULT);
}
