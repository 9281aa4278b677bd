// SPDX-License-Identifier: GPL-2.0-only
// How virtual machines end: files closed in any order, processes that fork, die or hand files on,
// and nothing of it left behind.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/netlink.h>
#include <new>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");
GUEST_CODE(spin, 64, "sti\n 1: jmp 1b");
// Exits of several kinds, without end.
GUEST_CODE(busy, 64, R"(
	sti
	mov $0xd0000000, %edi
1:	out %al, $0x10
	mov (%rdi), %eax
	cpuid
	mov %rax, 0x10000
	jmp 1b
)");

// Runs a function in a child; its exit status.
template <typename Body>
int in_child(Body body)
{
	pid_t child = fork();
	if (child == 0)
		_exit(body());
	int status = 0;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void check_that_guests_still_run()
{
	Guest guest{Mode::long_mode, halts};
	guest.run_to_halt();
}

i64 available_kilobytes()
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	long kilobytes = 0;
	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %ld kB", &kilobytes) == 1)
			break;
	if (file)
		fclose(file);
	return kilobytes;
}

} // namespace

TEST(a_forked_child_has_no_hold_of_the_vm)
{
	Guest guest{Mode::long_mode, halts};
	int status = in_child([&] {
		kvm_regs regs;
		if (guest.vm.call(KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != -EIO)
			return 1;
		if (guest.vm.call(KVM_CREATE_VCPU, 1) != -EIO)
			return 2;
		if (guest.vcpu.call(KVM_GET_REGS, &regs) != -EIO)
			return 3;
		if (guest.vcpu.enter() != -EIO)
			return 4;
		// The device itself is anyone's.
		if (guest.system.call(KVM_GET_API_VERSION) != 12)
			return 5;
		return 0;
	});
	CHECK_EQ(status, 0);
	guest.run_to_halt();
}

TEST(files_handed_to_another_process_are_refused_there)
{
	int sockets[2];
	REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets) == 0);
	pid_t child = fork();
	if (child == 0) {
		Guest guest{Mode::long_mode, halts};
		char byte = 0;
		iovec data{&byte, 1};
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
		msghdr message{};
		message.msg_iov = &data;
		message.msg_iovlen = 1;
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		int number = guest.vcpu.number();
		memcpy(CMSG_DATA(header), &number, sizeof number);
		_exit(sendmsg(sockets[1], &message, 0) == 1 ? 0 : 1);
	}
	char byte;
	iovec data{&byte, 1};
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
	msghdr message{};
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof control;
	REQUIRE(recvmsg(sockets[0], &message, MSG_CMSG_CLOEXEC) == 1);
	int number = -1;
	memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof number);
	waitpid(child, nullptr, 0);
	// Its process is gone; the file lives on here, and knows nobody.
	Fd vcpu{number};
	CHECK_EQ(vcpu.call(KVM_RUN), -EIO);
}

TEST(a_vcpu_outlives_the_file_of_its_vm)
{
	Guest guest{Mode::long_mode, halts};
	guest.vm.close();
	guest.system.close();
	guest.run_to_halt();
}

TEST(files_close_in_any_order)
{
	for (int order = 0; order < 6; ++order) {
		Guest guest{Mode::long_mode, halts, Guest::with_irqchip};
		Fd *files[] = {&guest.system, &guest.vm, &guest.vcpu};
		int first = order % 3, second = (first + 1 + order / 3) % 3;
		files[first]->close();
		files[second]->close();
		files[3 - first - second]->close();
	}
	check_that_guests_still_run();
}

TEST(the_run_page_outlives_every_file)
{
	Guest guest{Mode::long_mode, halts};
	guest.run_to_halt();
	guest.vcpu.close();
	guest.vm.close();
	guest.system.close();
	CHECK_EQ(guest.vcpu->exit_reason, static_cast<u32>(KVM_EXIT_HLT));
	guest.vcpu->cr8 = 3;
	CHECK_EQ(guest.vcpu->cr8, 3u);
}

TEST(memory_may_go_before_its_vm)
{
	Guest guest{Mode::long_mode, halts};
	guest.run_to_halt();
	REQUIRE(munmap(guest.memory.bytes(), Guest::memory_size) == 0);
	guest.vcpu.close();
	guest.vm.close();
	check_that_guests_still_run();
}

TEST(many_vms_at_once)
{
	constexpr int count = 32;
	alignas(Guest) static u8 space[count][sizeof(Guest)];
	Guest *guests[count];
	for (int i = 0; i < count; ++i)
		guests[i] = new (space[i]) Guest{Mode::long_mode, halts};
	for (int round = 0; round < 3; ++round)
		for (Guest *guest : guests)
			guest->run_to_halt();
	for (int i = 0; i < count; i += 2)
		guests[i]->~Guest();
	for (int i = 1; i < count; i += 2)
		guests[i]->run_to_halt();
}

TEST(a_killed_process_leaves_nothing)
{
	for (useconds_t delay = 0; delay < 40'000; delay += 1'300) {
		pid_t child = fork();
		if (child == 0) {
			for (;;) {
				Guest guest{Mode::long_mode, busy,
					delay % 2 ? Guest::with_irqchip : Guest::without};
				for (int i = 0; i < 20; ++i)
					guest.vcpu.enter();
			}
		}
		usleep(delay);
		kill(child, SIGKILL);
		waitpid(child, nullptr, 0);
	}
	check_that_guests_still_run();
}

TEST(a_process_exits_while_its_vcpu_runs)
{
	for (int i = 0; i < 5; ++i) {
		pid_t child = fork();
		if (child == 0) {
			static Guest guest{Mode::long_mode, spin};
			auto run = [](void *) { guest.vcpu.enter(); };
			Thread thread{run, nullptr};
			usleep(5000);
			_exit(0);
		}
		int status;
		waitpid(child, &status, 0);
		CHECK(WIFEXITED(status));
	}
	check_that_guests_still_run();
}

TEST(files_close_while_a_vcpu_runs)
{
	ignore_interruptions();
	Guest guest{Mode::long_mode, spin};
	struct Both {
		Guest &guest;
		bool ended = false;
	} both{guest};
	auto run = [](void *what) {
		auto *state = static_cast<Both *>(what);
		CHECK_EQ(state->guest.vcpu.enter(), -EINTR);
		__atomic_store_n(&state->ended, true, __ATOMIC_RELEASE);
	};
	Thread thread{run, &both};
	usleep(20'000);
	guest.vm.close();
	guest.system.close();
	guest.vcpu.close();
	while (!__atomic_load_n(&both.ended, __ATOMIC_ACQUIRE)) {
		thread.interrupt();
		usleep(1000);
	}
}

TEST(CVE_2019_6974_a_file_is_closed_before_its_creation_returns)
{
	System system;
	Vm vm{system};
	struct Guess {
		int number;
		bool stop = false;
	} guess{dup(0)};
	close(guess.number);
	auto close_it = [](void *what) {
		auto *state = static_cast<Guess *>(what);
		while (!__atomic_load_n(&state->stop, __ATOMIC_ACQUIRE))
			close(state->number);
	};
	Thread closer{close_it, &guess};
	for (u64 id = 0; id < 100; ++id)
		CHECK(vm.call(KVM_CREATE_VCPU, id) >= 0);
	for (int i = 0; i < 50; ++i)
		CHECK(system.call(KVM_CREATE_VM, 0ul) >= 0);
	__atomic_store_n(&guess.stop, true, __ATOMIC_RELEASE);
	closer.join();
	check_that_guests_still_run();
}

TEST(a_vcpu_goes_from_cpu_to_cpu)
{
	cpu_set_t all;
	sched_getaffinity(0, sizeof all, &all);
	if (CPU_COUNT(&all) < 2)
		skip_test("one CPU here");
	Guest guest{Mode::long_mode, halts};
	for (int i = 0; i < 100; ++i) {
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(i % CPU_COUNT(&all), &one);
		sched_setaffinity(0, sizeof one, &one);
		guest.run_to_halt();
	}
}

TEST(vms_give_back_their_memory)
{
	auto some = [] {
		for (int i = 0; i < 20; ++i) {
			Guest guest{Mode::long_mode, halts,
				i % 2 ? Guest::with_irqchip : Guest::without};
			if (i % 2 == 0)
				guest.run_to_halt();
		}
		usleep(300'000);
	};
	some();
	i64 before = available_kilobytes();
	for (int i = 0; i < 5; ++i)
		some();
	i64 lost = before - available_kilobytes();
	if (!CHECK(lost < 2048))
		note("%jd kB are gone after 100 VMs", intmax_t{lost});
}

TEST(vms_are_announced)
{
	Fd socket{::socket(
		AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT)};
	sockaddr_nl address{};
	address.nl_family = AF_NETLINK;
	address.nl_groups = 1;
	if (socket.number() < 0 ||
		bind(socket.number(), reinterpret_cast<sockaddr *>(&address), sizeof address) < 0)
		skip_test("no events of the kernel here");
	{
		System system;
		Vm vm{system};
	}
	char owner[32];
	snprintf(owner, sizeof owner, "PID=%d", getpid());
	unsigned created = 0, destroyed = 0;
	for (int tries = 0; tries < 100 && !(created && destroyed); ++tries) {
		char message[4096];
		ssize_t size = recv(socket.number(), message, sizeof message - 1, 0);
		if (size <= 0) {
			usleep(10'000);
			continue;
		}
		message[size] = '\0';
		bool mine = false, counted = false;
		const char *event = "";
		for (char *word = message; word < message + size; word += strlen(word) + 1) {
			mine |= !strcmp(word, owner);
			counted |= !strncmp(word, "COUNT=", 6);
			if (!strncmp(word, "EVENT=", 6))
				event = word + 6;
		}
		if (!mine)
			continue;
		CHECK(counted);
		created += !strcmp(event, "create");
		destroyed += !strcmp(event, "destroy");
	}
	CHECK_EQ(created, 1u);
	CHECK_EQ(destroyed, 1u);
}
