// SPDX-License-Identifier: GPL-2.0-only
// The ioctls as the selftests call them.
#include "kvm.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace kvmpp::selftests
{

void Fd::close()
{
	if (number_ >= 0)
		::close(std::exchange(number_, -1));
}

int Fd::call_with(unsigned long request, unsigned long argument) const
{
	int answer = ioctl(number_, request, argument);
	return answer < 0 ? -errno : answer;
}

System::System() : Fd(open(device, O_RDWR | O_CLOEXEC))
{
	REQUIRE(number() >= 0);
}

void System::need(long name, const char *meaning) const
{
	if (extension(name) <= 0)
		skip_test("no %s here", meaning);
}

kvm_cpuid_entry2 *CpuidTable::find(u32 function, u32 index)
{
	auto end = entries + nent;
	auto found = std::find_if(entries, end, [&](const kvm_cpuid_entry2 &entry) {
		return entry.function == function && entry.index == index;
	});
	return found == end ? nullptr : found;
}

bool MsrList::has(u32 index) const
{
	return std::find(indices, indices + nmsrs, index) != indices + nmsrs;
}

const CpuidTable &supported_cpuid()
{
	static CpuidTable table;
	if (!table.nent) {
		table.nent = std::size(table.entries);
		REQUIRE_EQ(System{}.call(KVM_GET_SUPPORTED_CPUID, &table), 0);
	}
	return table;
}

Backing::Backing(u64 size) : size_(size)
{
	void *memory =
		mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(memory != MAP_FAILED);
	bytes_ = static_cast<u8 *>(memory);
}

Backing::~Backing()
{
	if (bytes_)
		munmap(bytes_, size_);
}

Vm::Vm(const System &system) : Fd(system.call(KVM_CREATE_VM, 0ul))
{
	REQUIRE(number() >= 0);
}

int Vm::set_slot(u32 slot, u64 guest_address, u64 size, const void *backing, u32 flags) const
{
	kvm_userspace_memory_region region{
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = guest_address,
		.memory_size = size,
		.userspace_addr = reinterpret_cast<unsigned long>(backing),
	};
	return call(KVM_SET_USER_MEMORY_REGION, &region);
}

Vcpu::Vcpu(const System &system, const Vm &vm, u64 id)
	: Fd(vm.call(KVM_CREATE_VCPU, id)), size_(system.run_page_size())
{
	REQUIRE(number() >= 0);
	void *memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, number(), 0);
	REQUIRE(memory != MAP_FAILED);
	run_ = static_cast<kvm_run *>(memory);
}

Vcpu::Vcpu(Vcpu &&other) noexcept
	: Fd(std::move(other)), run_(std::exchange(other.run_, nullptr)), size_(other.size_)
{}

Vcpu::~Vcpu()
{
	if (run_)
		munmap(run_, size_);
}

kvm_regs Vcpu::regs() const
{
	kvm_regs regs{};
	REQUIRE_EQ(call(KVM_GET_REGS, &regs), 0);
	return regs;
}

void Vcpu::set(const kvm_regs &regs) const
{
	REQUIRE_EQ(call(KVM_SET_REGS, &regs), 0);
}

kvm_sregs Vcpu::sregs() const
{
	kvm_sregs sregs{};
	REQUIRE_EQ(call(KVM_GET_SREGS, &sregs), 0);
	return sregs;
}

void Vcpu::set(const kvm_sregs &sregs) const
{
	REQUIRE_EQ(call(KVM_SET_SREGS, &sregs), 0);
}

int Vcpu::set_msr(u32 index, u64 value) const
{
	MsrTable table{};
	table.nmsrs = 1;
	table.entries[0] = {.index = index, .reserved = 0, .data = value};
	return call(KVM_SET_MSRS, &table);
}

u64 Vcpu::msr(u32 index) const
{
	MsrTable table{};
	table.nmsrs = 1;
	table.entries[0].index = index;
	REQUIRE_EQ(call(KVM_GET_MSRS, &table), 1);
	return table.entries[0].data;
}

} // namespace kvmpp::selftests
