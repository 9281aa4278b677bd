// SPDX-License-Identifier: GPL-2.0-only
// Ioctls of the device itself: version, capabilities, virtual machines, CPUID and MSR lists.
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <unistd.h>
#include "kvm.h"

using namespace kvmpp::selftests;

TEST(api_version_is_12)
{
	System system;
	CHECK_EQ(system.call(KVM_GET_API_VERSION), 12);
	CHECK_EQ(system.call(KVM_GET_API_VERSION, 1), -EINVAL);
}

TEST(unknown_ioctls_are_refused)
{
	System system;
	CHECK_EQ(system.call(_IO(KVMIO, 0xff)), -EINVAL);
	CHECK_EQ(system.call(KVM_RUN), -EINVAL);
	Vm vm{system};
	CHECK_EQ(vm.call(_IO(KVMIO, 0xff)), -ENOTTY);
	CHECK_EQ(vm.call(KVM_RUN), -ENOTTY);
	Vcpu vcpu{system, vm};
	CHECK_EQ(vcpu.call(_IO(KVMIO, 0xff)), -EINVAL);
	CHECK_EQ(vcpu.call(KVM_CREATE_VCPU, 1), -EINVAL);
}

TEST(trace_ioctls_are_gone)
{
	System system;
	CHECK_EQ(system.call(KVM_TRACE_ENABLE), -EOPNOTSUPP);
	CHECK_EQ(system.call(KVM_TRACE_PAUSE), -EOPNOTSUPP);
	CHECK_EQ(system.call(KVM_TRACE_DISABLE), -EOPNOTSUPP);
}

TEST(create_vm_knows_type_0_only)
{
	System system;
	for (u64 type : {1ul, 2ul, 0x80000000ul, ~0ul})
		CHECK_EQ(system.call(KVM_CREATE_VM, type), -EINVAL);
	Fd vm{system.call(KVM_CREATE_VM, 0ul)};
	CHECK(vm.number() >= 0);
}

TEST(vm_file_is_named_and_closed_on_exec)
{
	System system;
	Vm vm{system};
	CHECK(fcntl(vm.number(), F_GETFD) & FD_CLOEXEC);
	char path[64], name[64] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", vm.number());
	CHECK(readlink(path, name, sizeof name - 1) > 0);
	CHECK(strcmp(name, "anon_inode:kvm-vm") == 0);
}

TEST(what_every_client_needs_is_advertised)
{
	System system;
	for (long capability : {KVM_CAP_USER_MEMORY, KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
		     KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, KVM_CAP_SET_TSS_ADDR, KVM_CAP_EXT_CPUID,
		     KVM_CAP_HLT, KVM_CAP_SYNC_MMU, KVM_CAP_MP_STATE, KVM_CAP_IMMEDIATE_EXIT})
		if (!CHECK(system.extension(capability) > 0))
			note("capability %ld", capability);
	CHECK(system.extension(KVM_CAP_NR_MEMSLOTS) >= 32);
	int usual = system.extension(KVM_CAP_NR_VCPUS), most = system.extension(KVM_CAP_MAX_VCPUS);
	CHECK(usual >= 1);
	CHECK(most >= usual);
	CHECK(system.extension(KVM_CAP_MAX_VCPU_ID) >= most);
}

TEST(unknown_capabilities_are_absent)
{
	System system;
	for (long capability : {1000l, 100000l, 0x7fffffffl, -1l})
		CHECK_EQ(system.extension(capability), 0);
}

TEST(a_vm_answers_for_capabilities_too)
{
	System system;
	NEED(system, KVM_CAP_CHECK_EXTENSION_VM);
	Vm vm{system};
	for (long capability : {KVM_CAP_USER_MEMORY, KVM_CAP_NR_MEMSLOTS, KVM_CAP_MAX_VCPUS,
		     KVM_CAP_IRQCHIP, KVM_CAP_ADJUST_CLOCK})
		CHECK_EQ(vm.call(KVM_CHECK_EXTENSION, capability), system.extension(capability));
	CHECK_EQ(vm.call(KVM_CHECK_EXTENSION, 100000), 0);
}

TEST(run_page_has_a_whole_size)
{
	System system;
	int size = system.run_page_size();
	CHECK(size >= static_cast<int>(sizeof(kvm_run)));
	CHECK_EQ(size % page, 0u);
	CHECK_EQ(system.call(KVM_GET_VCPU_MMAP_SIZE, 1), -EINVAL);
}

TEST(supported_cpuid_needs_room)
{
	System system;
	CpuidTable table{};
	for (u32 room : {0u, 1u, 5u}) {
		table.nent = room;
		CHECK_EQ(system.call(KVM_GET_SUPPORTED_CPUID, &table), -E2BIG);
	}
	CHECK_EQ(system.call(KVM_GET_SUPPORTED_CPUID, bad_pointer), -EFAULT);
}

TEST(supported_cpuid_claims_are_taken_as_room_for_256)
{
	System system;
	CpuidTable table{};
	table.nent = 0xffffffff;
	CHECK_EQ(system.call(KVM_GET_SUPPORTED_CPUID, &table), 0);
	CHECK(table.nent > 5 && table.nent <= std::size(table.entries));
}

TEST(supported_cpuid_describes_a_64_bit_guest_of_kvm)
{
	CpuidTable table = supported_cpuid();
	auto basic = table.find(0), features = table.find(1), extended = table.find(0x80000001);
	REQUIRE(basic && features && extended);
	CHECK(basic->eax >= 4);
	u32 fpu_pse_tsc_msr_pae_apic = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9;
	CHECK_EQ(features->edx & fpu_pse_tsc_msr_pae_apic, fpu_pse_tsc_msr_pae_apic);
	CHECK(extended->edx & 1 << 29);
	auto signature = table.find(0x40000000), paravirtual = table.find(0x40000001);
	REQUIRE(signature && paravirtual);
	CHECK(signature->eax >= 0x40000001);
	CHECK(memcmp(&signature->ebx, "KVMKVMKVM\0\0\0", 12) == 0);
}

TEST(msr_list_says_how_long_it_is)
{
	System system;
	for (auto request : {KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST}) {
		MsrList list{};
		list.nmsrs = 0;
		int answer = system.call(request, &list);
		// A list may be empty: then there is room enough.
		CHECK_EQ(answer, list.nmsrs ? -E2BIG : 0);
		u32 count = list.nmsrs;
		REQUIRE(count <= std::size(list.indices));
		if (count) {
			list.nmsrs = count - 1;
			CHECK_EQ(system.call(request, &list), -E2BIG);
			CHECK_EQ(list.nmsrs, count);
		}
		CHECK_EQ(system.call(request, &list), 0);
		CHECK_EQ(list.nmsrs, count);
		CHECK_EQ(system.call(request, bad_pointer), -EFAULT);
	}
}

TEST(msr_list_holds_what_a_64_bit_guest_saves)
{
	System system;
	MsrList list{};
	list.nmsrs = std::size(list.indices);
	REQUIRE_EQ(system.call(KVM_GET_MSR_INDEX_LIST, &list), 0);
	// SYSENTER_CS, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC.
	for (u32 index :
		{0x174u, 0xc0000081u, 0xc0000082u, 0xc0000083u, 0xc0000084u, 0xc0000102u, 0x10u})
		if (!CHECK(list.has(index)))
			note("MSR %#x", index);
}

TEST(feature_msrs_can_be_read)
{
	System system;
	NEED(system, KVM_CAP_GET_MSR_FEATURES);
	MsrList list{};
	list.nmsrs = std::size(list.indices);
	REQUIRE_EQ(system.call(KVM_GET_MSR_FEATURE_INDEX_LIST, &list), 0);
	MsrTable table{};
	table.nmsrs = list.nmsrs;
	for (u32 i = 0; i < list.nmsrs; ++i)
		table.entries[i].index = list.indices[i];
	CHECK_EQ(system.call(KVM_GET_MSRS, &table), list.nmsrs);
}

TEST(other_msrs_are_not_features)
{
	System system;
	NEED(system, KVM_CAP_GET_MSR_FEATURES);
	MsrTable table{};
	table.nmsrs = 1;
	table.entries[0].index = 0xc0000082;
	CHECK_EQ(system.call(KVM_GET_MSRS, &table), 0);
	table.nmsrs = 257;
	CHECK_EQ(system.call(KVM_GET_MSRS, &table), -E2BIG);
	CHECK_EQ(system.call(KVM_GET_MSRS, bad_pointer), -EFAULT);
}
