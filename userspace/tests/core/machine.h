// SPDX-License-Identifier: GPL-2.0-only
// The whole core on the simulated machine, used as a VMM uses it: by ioctls.
#pragma once

#include <cstring>
#include <memory>
#include <vector>
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include "api/entry.h"
#include "sim/clock.h"
#include "sim/cpu/cpus.h"
#include "sim/cpu/model.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/user/files.h"
#include "sim/user/memory.h"
#include "sim/user/watch.h"
#include "sim/vtx/guest.h"

namespace kvmpp::tests
{

using sim::Guest;
using sim::GuestExit;

// An exit that the VMM sees, and whose instruction is over.
inline GuestExit to_vmm(Guest &guest)
{
	return guest.out(0x80, 1, 0);
}

// What the host has given out and not got back.
struct Given {
	u64 memory = sim::memory_statistics().live;
	usize files = sim::file_counts().files, reserved = sim::file_counts().reserved;
	usize eventfd_references = sim::file_counts().eventfd_references;
	usize eventfd_watches = sim::file_counts().eventfd_watches;
	usize mm_watches = sim::watches();
	s64 directories = sim::visible_counts().directories;
	unsigned processors = sim::vtx::processors_on(), vmcss = sim::vtx::active_vmcss();
	bool operator==(const Given &) const = default;
};

inline void PrintTo(const Given &given, std::ostream *out)
{
	*out << given.memory << " allocations, " << given.files << " files and " << given.reserved
	     << " reserved, " << given.eventfd_references << " eventfds, " << given.eventfd_watches
	     << " watches of them, " << given.mm_watches << " watches of memory, " << given.directories
	     << " debugfs directories, " << given.processors << " processors in VMX operation, "
	     << given.vmcss << " active VMCSs";
}

// The module is loaded for the time of a test, and leaves nothing behind.
class Machine : public testing::Test {
protected:
	explicit Machine(bool exclusive = true) : exclusive_{exclusive} {}
	void SetUp() override
	{
		sim::reset_machine();
		sim::vtx::reset_refusals();
		sim::set_guest_program({});
		before_ = Given{};
		if (load_at_start_)
			load();
	}
	void load()
	{
		sim::InKernel kernel;
		ASSERT_EQ(kvmpp_start(exclusive_), 0);
		loaded_ = true;
	}
	void unload()
	{
		sim::InKernel kernel;
		kvmpp_stop();
		loaded_ = false;
	}
	void TearDown() override
	{
		sim::fail_nothing();
		sim::preempt_every(0);
		sim::set_guest_program({});
		if (loaded_)
			unload();
		EXPECT_EQ(Given{}, before_);
		if (!refusals_expected_) {
			EXPECT_EQ(sim::vtx::refusals() + sim::vtx::guest_refusals(), 0u)
				<< sim::vtx::last_refusal();
		}
	}

	bool load_at_start_ = true, exclusive_, refusals_expected_ = false;

private:
	bool loaded_ = false;
	Given before_{};
};

// A descriptor that is closed in the end.
class Descriptor {
public:
	Descriptor() = default;
	explicit Descriptor(long fd) : fd_{static_cast<int>(fd)} {}
	Descriptor(Descriptor &&other) : fd_{std::exchange(other.fd_, -1)} {}
	Descriptor &operator=(Descriptor &&other)
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Descriptor() { close(); }
	void close()
	{
		if (fd_ >= 0)
			sim::close(std::exchange(fd_, -1));
	}
	int number() const { return fd_; }

private:
	int fd_ = -1;
};

class Vcpu {
public:
	Vcpu() = default;
	explicit Vcpu(long fd) : fd_{fd} {}

	int fd() const { return fd_.number(); }
	kvm_run &shared() const { return *static_cast<kvm_run *>(sim::mapped_page(fd(), 0)); }
	u8 *port_data() const
	{
		return static_cast<u8 *>(sim::mapped_page(fd(), shared().io.data_offset / page_size));
	}
	template <class T>
	long ioctl(unsigned command, T argument) const
	{
		return sim::ioctl(fd(), command, argument);
	}
	long run() const { return sim::ioctl(fd(), KVM_RUN); }
	long run(sim::GuestProgram program) const
	{
		sim::set_guest_program(std::move(program));
		return run();
	}

	kvm_regs regs() const
	{
		kvm_regs regs{};
		EXPECT_EQ(ioctl(KVM_GET_REGS, &regs), 0);
		return regs;
	}
	kvm_sregs sregs() const
	{
		kvm_sregs sregs{};
		EXPECT_EQ(ioctl(KVM_GET_SREGS, &sregs), 0);
		return sregs;
	}
	// As a processor has them that a boot loader has brought to flat 32-bit or to 64-bit mode, at
	// `rip`, interrupts off.
	void enter_protected_mode(u64 rip) const;
	void enter_long_mode(u64 rip, u64 cr3) const;
	// Everything that KVM_GET_SUPPORTED_CPUID offers.
	long set_supported_cpuid() const;
	long set_msr(u32 index, u64 value) const;
	std::optional<u64> msr(u32 index) const;
	void close() { fd_.close(); }

private:
	Descriptor fd_;
};

class Vm {
public:
	Vm() : fd_{sim::system_ioctl(KVM_CREATE_VM)} {}

	int fd() const { return fd_.number(); }
	template <class T>
	long ioctl(unsigned command, T argument) const
	{
		return sim::ioctl(fd(), command, argument);
	}
	long ioctl(unsigned command) const { return sim::ioctl(fd(), command); }
	Vcpu create_vcpu(u64 id = 0) const { return Vcpu{ioctl(KVM_CREATE_VCPU, id)}; }
	long set_slot(u32 slot, u64 gpa, const sim::UserMemory &memory, u32 flags = 0) const
	{
		return set_slot(slot, gpa, memory.address(), memory.size(), flags);
	}
	long set_slot(u32 slot, u64 gpa, u64 address, u64 size, u32 flags = 0) const
	{
		kvm_userspace_memory_region region{.slot = slot,
			.flags = flags,
			.guest_phys_addr = gpa,
			.memory_size = size,
			.userspace_addr = address};
		return ioctl(KVM_SET_USER_MEMORY_REGION, &region);
	}
	void close() { fd_.close(); }

private:
	Descriptor fd_;
};

// KVM_GET_SUPPORTED_CPUID, as KVM_SET_CPUID2 takes it.
struct CpuidTable {
	static constexpr unsigned room = 128;
	kvm_cpuid2 header{.nent = room, .padding = 0, .entries = {}};
	kvm_cpuid_entry2 entries[room]{};
};
// The TSC deadline is not in the list: it depends on the irqchip.
std::unique_ptr<CpuidTable> supported_cpuid(bool with_deadline = false);

// A VM with one vCPU in flat protected mode, and RAM from 0 on with its code at code_address.
struct Guest32 {
	static constexpr u64 code_address = 0x1000, ram_pages = 16;

	Guest32();

	Vm vm;
	sim::UserMemory ram{ram_pages};
	Vcpu vcpu;
};

} // namespace kvmpp::tests
