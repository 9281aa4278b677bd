// SPDX-License-Identifier: GPL-2.0-only
// KVM_CREATE_VCPU: ids, limits, the file and the pages that it shows by mmap.
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "kvm.h"

using namespace kvmpp::selftests;

TEST(ids_are_unique)
{
	System system;
	Vm vm{system};
	Vcpu first{system, vm, 0};
	CHECK_EQ(vm.call(KVM_CREATE_VCPU, 0ul), -EEXIST);
	Vcpu second{system, vm, 1};
	CHECK_EQ(vm.call(KVM_CREATE_VCPU, 1), -EEXIST);
	// A closed file is no end of its vCPU.
	second.close();
	CHECK_EQ(vm.call(KVM_CREATE_VCPU, 1), -EEXIST);
}

TEST(ids_need_not_be_dense)
{
	System system;
	Vm vm{system};
	Vcpu fifth{system, vm, 5};
	Vcpu second{system, vm, 2};
	Vcpu first{system, vm, 0};
	CHECK(first.number() >= 0 && second.number() >= 0 && fifth.number() >= 0);
}

TEST(CVE_2013_4587_ids_end_where_the_capability_says)
{
	System system;
	Vm vm{system};
	u64 end = static_cast<u64>(system.extension(KVM_CAP_MAX_VCPU_ID));
	Fd last{vm.call(KVM_CREATE_VCPU, end - 1)};
	CHECK(last.number() >= 0);
	for (u64 id : {end, end + 1, 0x7ffffffful, 0x80000000ul, 0xfffffffful, ~0ul})
		if (!CHECK_EQ(vm.call(KVM_CREATE_VCPU, id), -EINVAL))
			note("id %#lx", id);
}

TEST(more_vcpus_than_the_capability_says_are_refused)
{
	System system;
	Vm vm{system};
	int most = system.extension(KVM_CAP_MAX_VCPUS);
	rlimit files{.rlim_cur = static_cast<rlim_t>(most) + 64,
		.rlim_max = static_cast<rlim_t>(most) + 64};
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		skip_test("not allowed %d files", most + 64);
	for (int id = 0; id < most; ++id) {
		int answer = vm.call(KVM_CREATE_VCPU, static_cast<u64>(id));
		if (answer == -ENOMEM)
			skip_test("no memory for more than %d vCPUs", id);
		REQUIRE(answer >= 0);
	}
	CHECK_EQ(vm.call(KVM_CREATE_VCPU, static_cast<u64>(most)), -EINVAL);
}

TEST(file_is_named_and_closed_on_exec)
{
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm, 3};
	CHECK(fcntl(vcpu.number(), F_GETFD) & FD_CLOEXEC);
	char path[64], name[64] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", vcpu.number());
	CHECK(readlink(path, name, sizeof name - 1) > 0);
	CHECK(strcmp(name, "anon_inode:kvm-vcpu:3") == 0);
}

TEST(run_page_is_shared_by_every_mapping)
{
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};
	size_t size = static_cast<size_t>(system.run_page_size());
	auto *other = static_cast<kvm_run *>(
		mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.number(), 0));
	REQUIRE(other != MAP_FAILED);
	vcpu->cr8 = 7;
	CHECK_EQ(other->cr8, 7u);
}

TEST(run_page_begins_empty)
{
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};
	const u8 *bytes = reinterpret_cast<const u8 *>(&vcpu.state());
	int set = 0;
	for (int i = 0; i < system.run_page_size(); ++i)
		set += bytes[i] != 0;
	CHECK_EQ(set, 0);
}

namespace
{
sigjmp_buf after_fault;
} // namespace

TEST(pages_beyond_those_of_a_vcpu_are_not_there)
{
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};
	size_t size = static_cast<size_t>(system.run_page_size());
	auto *beyond = static_cast<volatile u8 *>(mmap(nullptr, page, PROT_READ | PROT_WRITE,
		MAP_SHARED, vcpu.number(), static_cast<off_t>(size + 16 * page)));
	if (beyond == MAP_FAILED)
		return; // refused at once: just as well
	struct sigaction action {};
	action.sa_handler = [](int) { siglongjmp(after_fault, 1); };
	sigaction(SIGBUS, &action, nullptr);
	if (sigsetjmp(after_fault, 1) == 0) {
		static_cast<void>(*beyond);
		CHECK(!"a page beyond the last could be read");
	}
}

TEST(create_vcpu_answers_on_a_vm_only)
{
	System system;
	CHECK_EQ(system.call(KVM_CREATE_VCPU, 0ul), -EINVAL);
}
