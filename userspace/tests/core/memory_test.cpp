// SPDX-License-Identifier: GPL-2.0-only
// Slots: which can be, what a guest finds in them, and which of their pages it has written.
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

using Memory = Machine;

TEST_F(Memory, SlotsThatCannotBe)
{
	const Vm vm;
	const sim::UserMemory ram{16};
	const u64 at = ram.address();
	EXPECT_EQ(vm.set_slot(0, 0, at, 0), -EINVAL);		      // nothing to delete
	EXPECT_EQ(vm.set_slot(0, 1, at, page_size), -EINVAL);	      // unaligned
	EXPECT_EQ(vm.set_slot(0, 0, at + 1, page_size), -EINVAL);
	EXPECT_EQ(vm.set_slot(0, 0, at, 1), -EINVAL);
	EXPECT_EQ(vm.set_slot(32764, 0, at, page_size), -EINVAL);
	EXPECT_EQ(vm.set_slot(0, ~0xfffull, at, 2 * page_size), -EINVAL); // wraps
	EXPECT_EQ(vm.set_slot(0, 0, ~0xfffull, page_size), -EINVAL);	      // not user memory
	EXPECT_EQ(vm.set_slot(0, 0, at, page_size, 4), -EINVAL);	      // unknown flag
	EXPECT_EQ(vm.set_slot(2 << 16, 0, at, page_size), -EINVAL);	      // address space
	ASSERT_EQ(vm.set_slot(0, 0, at, 4 * page_size), 0);
	EXPECT_EQ(vm.set_slot(1, 0x3000, at, page_size), -EEXIST);
	EXPECT_EQ(vm.set_slot(0, 0, at, 8 * page_size), -EINVAL);		 // another size
	EXPECT_EQ(vm.set_slot(0, 0, at + page_size, 4 * page_size), -EINVAL);	 // other memory
	EXPECT_EQ(vm.set_slot(0, 0, at, 4 * page_size, KVM_MEM_READONLY), -EINVAL);
	EXPECT_EQ(vm.set_slot(0, 0, at, 4 * page_size), 0);			 // no change
}

TEST_F(Memory, DirtyPagesAreThoseThatWereWritten)
{
	const Guest32 guest;
	ASSERT_EQ(guest.vm.set_slot(0, 0, guest.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	const auto write = [](u64 address) {
		return [address](Guest &g) -> GuestExit {
			u8 value = 1;
			if (const auto exit = g.write(address, &value, 1))
				return *exit;
			return g.hlt();
		};
	};
	u64 bitmap = 0;
	const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
	const auto collect = [&] {
		kvm_dirty_log log{};
		log.dirty_bitmap = &bitmap;
		EXPECT_EQ(guest.vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
		return bitmap;
	};
	EXPECT_EQ(guest.vcpu.run(write(0x3000)), 0);
	EXPECT_EQ(guest.vcpu.run(write(0x5000)), 0);
	EXPECT_EQ(collect(), bit(3) | bit(5));
	EXPECT_EQ(collect(), 0u);
	// Written again it faults again, and is seen again.
	EXPECT_EQ(guest.vcpu.run(write(0x5000)), 0);
	EXPECT_EQ(collect(), bit(5));
	kvm_dirty_log none{};
	none.slot = 7;
	EXPECT_EQ(guest.vm.ioctl(KVM_GET_DIRTY_LOG, &none), -ENOENT);
}

TEST_F(Memory, DirtyPagesThatTheVmmClears)
{
	const Guest32 guest;
	kvm_enable_cap capability{};
	capability.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
	capability.args[0] = KVM_DIRTY_LOG_INITIALLY_SET;
	EXPECT_EQ(guest.vm.ioctl(KVM_ENABLE_CAP, &capability), -EINVAL);
	capability.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	ASSERT_EQ(guest.vm.ioctl(KVM_ENABLE_CAP, &capability), 0);
	ASSERT_EQ(guest.vm.set_slot(0, 0, guest.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	u64 bitmap = 0;
	const sim::UserArgument memory{&bitmap, sizeof(bitmap)};
	kvm_dirty_log log{};
	log.dirty_bitmap = &bitmap;
	EXPECT_EQ(guest.vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
	EXPECT_EQ(bitmap, 0xffffu);
	kvm_clear_dirty_log clear{};
	clear.num_pages = 16;
	clear.dirty_bitmap = &bitmap;
	bitmap = 0xff00;
	EXPECT_EQ(guest.vm.ioctl(KVM_CLEAR_DIRTY_LOG, &clear), 0);
	EXPECT_EQ(guest.vm.ioctl(KVM_GET_DIRTY_LOG, &log), 0);
	EXPECT_EQ(bitmap, 0xffu);
	clear.first_page = 1;
	EXPECT_EQ(guest.vm.ioctl(KVM_CLEAR_DIRTY_LOG, &clear), -EINVAL);
	clear.first_page = 64;
	EXPECT_EQ(guest.vm.ioctl(KVM_CLEAR_DIRTY_LOG, &clear), -EINVAL);
}

TEST_F(Memory, LargePagesWhereTheHostHasThem)
{
	const Vm vm;
	const sim::UserMemory ram{1024, 21};
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	const Vcpu vcpu = vm.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	unsigned faults = 0;
	const auto program = [&](Guest &g) {
		for (u64 page = 0; page < 1024; page += 64) {
			u8 value = 1;
			if (const auto exit = g.write(page * page_size, &value, 1)) {
				++faults;
				return *exit;
			}
		}
		return g.hlt();
	};
	EXPECT_EQ(vcpu.run(program), 0);
	EXPECT_EQ(faults, 2u);
	EXPECT_TRUE(ram.at<u8>(1023 * page_size - 63 * page_size));
}

TEST_F(Memory, ReadOnlySlotsAndMemoryThatTheVmmTakesAway)
{
	const Vm vm;
	sim::UserMemory ram{16};
	ASSERT_EQ(vm.set_slot(0, 0, ram, KVM_MEM_READONLY), 0);
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_protected_mode(0x1000);
	constexpr u8 store[] = {0x89, 0x03}; // mov [ebx], eax
	std::memcpy(ram.data() + 0x1000, store, sizeof(store));
	const auto write = [](Guest &g) -> GuestExit {
		g.gprs[x86::Gpr::rbx] = 0x3000;
		u32 value = 0;
		const auto exit = g.write(0x3000, &value, sizeof(value));
		return exit ? *exit : g.hlt();
	};
	// A write to a ROM is a device's.
	ASSERT_EQ(vcpu.run(write), 0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_EQ(vcpu.shared().mmio.phys_addr, 0x3000u);
	const auto read = [](Guest &g) -> GuestExit {
		u32 value = 0;
		const auto exit = g.read(0x3000, &value, sizeof(value));
		return exit ? *exit : g.hlt();
	};
	EXPECT_EQ(vcpu.run(read), 0);
	ram.change(0, 16, sim::PageState::unmapped);
	EXPECT_EQ(vcpu.run(read), -EFAULT);
	ram.change(3, 1, sim::PageState::poisoned);
	EXPECT_EQ(vcpu.run(read), -EHWPOISON);
	ram.change(0, 16, sim::PageState::mapped);
	EXPECT_EQ(vcpu.run(read), 0);
}

TEST_F(Memory, MemoryOfADeviceIsUncacheable)
{
	const Vm vm;
	sim::UserMemory device{16};
	device.device = true;
	ASSERT_EQ(vm.set_slot(0, 0, device), 0);
	const Vcpu vcpu = vm.create_vcpu();
	vcpu.enter_protected_mode(0x1000);
	EXPECT_EQ(vcpu.run([](Guest &g) -> GuestExit {
		u32 value = 7;
		const auto exit = g.write(0x3000, &value, sizeof(value));
		return exit ? *exit : g.hlt();
	}),
		0);
	EXPECT_EQ(device.at<u32>(0x3000), 7u);
}

// CVE-2022-1158: bits that a walk sets in memory without pages behind it went to an address that was computed
// from the mapping's offset. Here they go where the VMM's mapping leads, and nowhere else.
TEST_F(Memory, Cve_2022_1158_PageTablesInTheMemoryOfADevice)
{
	constexpr u64 place = 0x100000, device = 0xd0000000, all = 7, large = 1 << 7, accessed = 1 << 5,
		      dirty = 1 << 6;
	const Vm vm;
	const sim::UserMemory ram{16};
	sim::UserMemory tables{16};
	tables.device = true;
	ASSERT_EQ(vm.set_slot(0, 0, ram), 0);
	ASSERT_EQ(vm.set_slot(1, place, tables), 0);
	const u64 top = (place + page_size) | all, code = all | large, devices = 0xc0000000 | all | large;
	tables.at<u64>(0) = top;
	tables.at<u64>(page_size) = code;
	tables.at<u64>(page_size + 3 * 8) = devices;
	ram.at<u16>(0x1000) = 0x0389; // mov [rbx], eax
	const Vcpu vcpu = vm.create_vcpu();
	ASSERT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_long_mode(0x1000, place);
	EXPECT_EQ(vcpu.run([](Guest &g) {
		g.gprs[x86::Gpr::rbx] = device;
		GuestExit exit = GuestExit::of(vmx::ExitReason::ept_violation, 2 | 3 << 7);
		exit.guest_physical = device;
		return exit;
	}),
		0);
	EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_EQ(tables.at<u64>(0), top | accessed);
	EXPECT_EQ(tables.at<u64>(page_size), code | accessed);
	EXPECT_EQ(tables.at<u64>(page_size + 3 * 8), devices | accessed | dirty);
	tables.at<u64>(0) = tables.at<u64>(page_size) = tables.at<u64>(page_size + 3 * 8) = 0;
	for (u64 offset = 0; offset < tables.size(); offset += 8)
		ASSERT_EQ(tables.at<u64>(offset), 0u) << offset;
}

} // namespace
} // namespace kvmpp::tests
