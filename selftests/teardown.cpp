// SPDX-License-Identifier: GPL-2.0-only
// Processes that die, exec or hand their files on, in whatever state their vCPUs are: they end, and
// leave nothing behind.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <iterator>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "files.h"
#include "interrupts.h"
#include "running.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");
GUEST_CODE(spin, 64, "sti\n 1: movb $1, 0x10000\n pause\n jmp 1b");
GUEST_CODE(sleep_for_ever, 64, APIC_ENABLE "movb $1, 0x10000\n 1: sti\n hlt\n jmp 1b");
GUEST_CODE(busy, 64, "1: out %al, $0x10\n movb $1, 0x10000\n jmp 1b");
GUEST_CODE(touch_the_second_slot, 64, "movb $1, 0x10000\n movb $1, 0x40000000\n hlt");

// References to the module, which every file of it holds. -1 if they are not shown.
int references()
{
	char text[32];
	if (!strstr(device, "kvmpp") || !read_text("/sys/module/kvmpp/refcnt", text, sizeof text))
		return -1;
	return atoi(text);
}

// All that a test has made is gone again.
class NothingLeft {
public:
	~NothingLeft()
	{
		// Files of a process that was killed are closed a moment later.
		for (int tries = 0; tries < 200 && references() > before_; ++tries)
			usleep(10'000);
		CHECK(references() <= before_);
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
	}

private:
	int before_ = references();
};

// What parent and child share.
struct Shared {
	u8 ready;
};

Shared &make_shared()
{
	void *memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(memory != MAP_FAILED);
	return *static_cast<Shared *>(memory);
}

// Kills a child, once it is in that state, and sees it end.
template <typename State>
void kill_in(State state, int before = 0)
{
	NothingLeft nothing;
	for (useconds_t delay : {0u, 1'000u, 20'000u}) {
		Shared &shared = make_shared();
		pid_t child = fork();
		if (child == 0) {
			state(shared);
			_exit(1);
		}
		wait_for(shared.ready);
		usleep(delay);
		if (before)
			kill(child, before);
		kill(child, SIGKILL);
		int status = 0, ended = 0;
		for (int tries = 0; tries < 500 && !ended; ++tries) {
			ended = waitpid(child, &status, WNOHANG);
			usleep(10'000);
		}
		REQUIRE_EQ(ended, child);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
}

void set_ready(Shared &shared)
{
	__atomic_store_n(&shared.ready, 1, __ATOMIC_RELEASE);
}

// Tells of the guest's first step from another thread, while this one runs it.
void run_and_tell(Guest &guest, Shared &shared)
{
	struct Both {
		Guest &guest;
		Shared &shared;
	} both{guest, shared};
	auto tell = [](void *what) {
		auto *it = static_cast<Both *>(what);
		wait_for(it->guest.value<u8>(at::data));
		set_ready(it->shared);
	};
	Thread teller{tell, &both};
	for (;;)
		guest.vcpu.enter();
}

} // namespace

TEST(killed_while_the_guest_runs)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, spin};
		run_and_tell(guest, shared);
	});
}

TEST(killed_while_the_guest_sleeps)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, sleep_for_ever, Guest::with_irqchip};
		run_and_tell(guest, shared);
	});
}

TEST(killed_while_a_vcpu_waits_for_its_start)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, halts, Guest::with_irqchip};
		Vcpu second{guest.system, guest.vm, 1};
		set_ready(shared);
		for (;;)
			second.enter();
	});
}

TEST(killed_between_exits)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, busy};
		for (;;) {
			guest.run_to_out(0x10);
			set_ready(shared);
		}
	});
}

TEST(killed_while_the_vmm_handles_an_exit)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, busy};
		guest.run_to_out(0x10);
		set_ready(shared);
		for (;;)
			pause();
	});
}

TEST(killed_while_an_ioctl_waits_for_the_vcpu)
{
	kill_in([](Shared &shared) {
		Guest guest{Mode::long_mode, spin};
		auto ask = [](void *what) { static_cast<Guest *>(what)->vcpu.regs(); };
		auto run = [](void *what) { static_cast<Guest *>(what)->vcpu.enter(); };
		Thread runs{run, &guest};
		wait_for(guest.value<u8>(at::data));
		Thread asks{ask, &guest};
		usleep(10'000);
		set_ready(shared);
		for (;;)
			pause();
	});
}

TEST(killed_while_a_page_is_awaited)
{
	Fd faults{static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))};
	uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
	if (faults.number() < 0 || ioctl(faults.number(), UFFDIO_API, &api) < 0)
		skip_test("no userfaultfd here");
	kill_in([](Shared &shared) {
		// Of this process's memory.
		Fd mine{static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))};
		uffdio_api version{.api = UFFD_API, .features = 0, .ioctls = 0};
		REQUIRE(ioctl(mine.number(), UFFDIO_API, &version) == 0);
		Guest guest{Mode::long_mode, touch_the_second_slot};
		Backing absent{page};
		uffdio_register range{};
		range.range.start = reinterpret_cast<u64>(absent.bytes());
		range.range.len = page;
		range.mode = UFFDIO_REGISTER_MODE_MISSING;
		REQUIRE(ioctl(mine.number(), UFFDIO_REGISTER, &range) == 0);
		REQUIRE_EQ(guest.vm.set_slot(1, 0x40000000, page, absent.bytes()), 0);
		run_and_tell(guest, shared);
	});
}

TEST(killed_while_stopped)
{
	kill_in(
		[](Shared &shared) {
			Guest guest{Mode::long_mode, spin};
			run_and_tell(guest, shared);
		},
		SIGSTOP);
}

TEST(files_and_maps_go_in_every_order)
{
	NothingLeft nothing;
	unsigned order[] = {0, 1, 2, 3, 4};
	do {
		System system;
		Vm vm{system};
		Fd vcpu{vm.call(KVM_CREATE_VCPU, 0)}, statistics{vm.call(KVM_GET_STATS_FD)},
			of_vcpu{vcpu.call(KVM_GET_STATS_FD)};
		u64 size = static_cast<u64>(system.run_page_size());
		void *run = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.number(), 0);
		REQUIRE(run != MAP_FAILED);
		if (order[0] == 0)
			system.close();
		for (unsigned what : order) {
			switch (what) {
			case 0: vm.close(); break;
			case 1: vcpu.close(); break;
			case 2: statistics.close(); break;
			case 3: of_vcpu.close(); break;
			case 4: munmap(run, size); break;
			}
		}
	} while (std::next_permutation(std::begin(order), std::end(order)));
}

TEST(exec_ends_a_vm)
{
	NothingLeft nothing;
	// This test runs once more behind the exec, with files that were not closed by it.
	if (const char *numbers = getenv("SELFTEST_FILES")) {
		int vm_number, vcpu_number;
		REQUIRE_EQ(sscanf(numbers, "%d %d", &vm_number, &vcpu_number), 2);
		unsetenv("SELFTEST_FILES");
		Fd vm{vm_number}, vcpu{vcpu_number};
		kvm_regs regs;
		CHECK_EQ(vcpu.call(KVM_RUN), -EIO);
		CHECK_EQ(vcpu.call(KVM_GET_REGS, &regs), -EIO);
		CHECK_EQ(vm.call(KVM_CREATE_VCPU, 1), -EIO);
		CHECK_EQ(vm.call(KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), -EIO);
		end_test();
	}
	pid_t child = fork();
	if (child == 0) {
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		char numbers[32];
		snprintf(numbers, sizeof numbers, "%d %d", guest.vm.number(), guest.vcpu.number());
		setenv("SELFTEST_FILES", numbers, 1);
		fcntl(guest.vm.number(), F_SETFD, 0);
		fcntl(guest.vcpu.number(), F_SETFD, 0);
		// Its TAP is not ours.
		dup2(open("/dev/null", O_WRONLY), 1);
		execl("/proc/self/exe", "selftest", device, "exec_ends_a_vm", nullptr);
		_exit(99);
	}
	int status = -1;
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(files_in_flight_are_closed)
{
	NothingLeft nothing;
	Guest guest{Mode::long_mode, halts};
	for (const Fd *file : {static_cast<Fd *>(&guest.vm), static_cast<Fd *>(&guest.vcpu)}) {
		int sockets[2];
		REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets) == 0);
		Fd from{sockets[0]}, to{sockets[1]};
		// And a socket that carries itself, which only the kernel's collector ends.
		int numbers[] = {file->number(), from.number(), to.number()};
		char byte = 0;
		iovec data{&byte, 1};
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof numbers)]{};
		msghdr message{};
		message.msg_iov = &data;
		message.msg_iovlen = 1;
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof numbers);
		memcpy(CMSG_DATA(header), numbers, sizeof numbers);
		REQUIRE_EQ(sendmsg(from.number(), &message, 0), 1);
	}
	guest.run_to_halt();
	// The collector runs when some socket is closed.
	Fd{socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
}

TEST(a_child_keeps_the_run_page_of_a_parent_that_is_gone)
{
	NothingLeft nothing;
	Shared &shared = make_shared();
	pid_t parent = fork();
	if (parent == 0) {
		Guest guest{Mode::long_mode, halts};
		guest.run_to_halt();
		pid_t self = getpid();
		if (fork() == 0) {
			while (getppid() == self)
				usleep(1000);
			// Not touched before by this process.
			bool good = guest.vcpu->exit_reason == KVM_EXIT_HLT;
			good &= guest.vcpu.enter() == -EIO;
			__atomic_store_n(&shared.ready, good ? 1 : 2, __ATOMIC_RELEASE);
			_exit(0);
		}
		_exit(0);
	}
	waitpid(parent, nullptr, 0);
	wait_for(shared.ready);
	CHECK_EQ(shared.ready, 1);
}

TEST(maps_of_a_vcpu_end_where_its_pages_do)
{
	NothingLeft nothing;
	Guest guest{Mode::long_mode, halts};
	int size = guest.system.run_page_size();
	auto *bytes = static_cast<volatile u8 *>(mmap(nullptr, static_cast<u64>(size) + page,
		PROT_READ, MAP_SHARED, guest.vcpu.number(), 0));
	REQUIRE(bytes != MAP_FAILED);
	for (int at = 0; at < size; at += page)
		(void)bytes[at];
	pid_t child = fork();
	if (child == 0) {
		(void)bytes[size];
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap(const_cast<u8 *>(bytes), static_cast<u64>(size) + page);
}
