// SPDX-License-Identifier: GPL-2.0-only
// The ioctls as the selftests call them: raw, on <linux/kvm.h>, each answer an int that is a
// negative errno where the call failed.
#pragma once

#include <concepts>
#include <cstddef>
#include <linux/stddef.h>
// In C++ an empty struct has a size: the kernel's own wrapper of a flexible array would move the
// array, and change the ioctl numbers that contain the size of its struct.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#include <linux/kvm.h>
#include "harness.h"

namespace kvmpp::selftests
{

// A file descriptor that is closed once.
class Fd {
public:
	explicit Fd(int number = -1) : number_(number) {}
	Fd(Fd &&other) noexcept : number_(std::exchange(other.number_, -1)) {}
	Fd &operator=(Fd &&other) noexcept
	{
		close();
		number_ = std::exchange(other.number_, -1);
		return *this;
	}
	~Fd() { close(); }

	int number() const { return number_; }
	void close();

	// 0 or more, or a negative errno.
	int call(unsigned long request, std::integral auto argument) const
	{
		return call_with(request, static_cast<unsigned long>(argument));
	}
	int call(unsigned long request, const void *argument = nullptr) const
	{
		return call_with(request, reinterpret_cast<unsigned long>(argument));
	}

private:
	int call_with(unsigned long request, unsigned long argument) const;

	int number_;
};

// The device. Opening it is what every test can rely on.
struct System : Fd {
	System();

	int extension(long name) const { return call(KVM_CHECK_EXTENSION, name); }
	// Ends the test as skipped if the host does not offer this.
	void need(long name, const char *meaning) const;
	int run_page_size() const { return call(KVM_GET_VCPU_MMAP_SIZE); }
};
#define NEED(system, capability) (system).need(capability, #capability)

// A CPUID table with room for any.
struct CpuidTable {
	u32 nent, padding;
	kvm_cpuid_entry2 entries[256];

	kvm_cpuid_entry2 *find(u32 function, u32 index = 0);
};

// A list of MSRs with room for any.
struct MsrTable {
	u32 nmsrs, padding;
	kvm_msr_entry entries[256];
};

struct MsrList {
	u32 nmsrs;
	u32 indices[1024];

	bool has(u32 index) const;
};

// The UAPI's own structures end in arrays without a size.
static_assert(offsetof(CpuidTable, entries) == sizeof(kvm_cpuid2));
static_assert(offsetof(MsrTable, entries) == sizeof(kvm_msrs));
static_assert(offsetof(MsrList, indices) == sizeof(kvm_msr_list));

// What the system supports, as it would give it to a vCPU.
const CpuidTable &supported_cpuid();

// Memory of this process, of which a slot may show a part to a guest.
class Backing {
public:
	explicit Backing(u64 size);
	Backing(Backing &&other) noexcept
		: bytes_(std::exchange(other.bytes_, nullptr)), size_(other.size_)
	{}
	~Backing();

	u8 *bytes() const { return bytes_; }
	u64 size() const { return size_; }

private:
	u8 *bytes_;
	u64 size_;
};

struct Vm : Fd {
	explicit Vm(const System &system);

	int set_slot(
		u32 slot, u64 guest_address, u64 size, const void *backing, u32 flags = 0) const;
};

class Vcpu : public Fd {
public:
	Vcpu(const System &system, const Vm &vm, u64 id = 0);
	Vcpu(Vcpu &&other) noexcept;
	~Vcpu();

	kvm_run *operator->() const { return run_; }
	kvm_run &state() const { return *run_; }
	// The data of the port access that ended the last run.
	u8 *io_data() const { return reinterpret_cast<u8 *>(run_) + run_->io.data_offset; }

	int enter() const { return call(KVM_RUN); }

	kvm_regs regs() const;
	void set(const kvm_regs &regs) const;
	kvm_sregs sregs() const;
	void set(const kvm_sregs &sregs) const;
	int set_msr(u32 index, u64 value) const; // 1 if it took it
	u64 msr(u32 index) const;
	int set(const CpuidTable &table) const { return call(KVM_SET_CPUID2, &table); }

private:
	kvm_run *run_ = nullptr;
	u64 size_ = 0;
};

// An address that no process of the test has mapped.
inline const void *const bad_pointer = reinterpret_cast<const void *>(8);

inline constexpr u64 page = 4096;

constexpr u64 up(u64 value, u64 alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

} // namespace kvmpp::selftests
