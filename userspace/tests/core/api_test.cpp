// SPDX-License-Identifier: GPL-2.0-only
// ioctls: what they refuse, and what they keep.
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

using Api = Machine;

TEST_F(Api, TheDeviceSaysWhatItIs)
{
	EXPECT_EQ(sim::system_ioctl(KVM_GET_API_VERSION), 12);
	EXPECT_EQ(sim::system_ioctl(KVM_GET_API_VERSION, 1ul), -EINVAL);
	EXPECT_EQ(sim::system_ioctl(KVM_GET_VCPU_MMAP_SIZE), 3 * static_cast<long>(page_size));
	EXPECT_EQ(sim::system_ioctl(KVM_CREATE_VM, 1ul), -EINVAL);
	EXPECT_EQ(sim::system_ioctl(0xae7f), -EINVAL);
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, u64{KVM_CAP_USER_MEMORY}), 1);
	EXPECT_EQ(sim::system_ioctl(KVM_CHECK_EXTENSION, ~0ul), 0);
	EXPECT_GT(sim::system_ioctl(KVM_CHECK_EXTENSION, u64{KVM_CAP_MAX_VCPUS}), 0);
}

TEST_F(Api, EveryCapabilityHasAnAnswer)
{
	const Vm vm;
	for (u64 capability = 0; capability < 300; ++capability) {
		const long answer = sim::system_ioctl(KVM_CHECK_EXTENSION, capability);
		EXPECT_GE(answer, 0) << capability;
		EXPECT_EQ(vm.ioctl(KVM_CHECK_EXTENSION, capability), answer) << capability;
	}
	for (const u64 command : {u64{__KVM_DEPRECATED_MAIN_W_0x06}, u64{__KVM_DEPRECATED_MAIN_0x07},
		     u64{__KVM_DEPRECATED_MAIN_0x08}})
		EXPECT_EQ(sim::system_ioctl(static_cast<unsigned>(command)), -EOPNOTSUPP);
	EXPECT_EQ(vm.ioctl(0xae7f), -ENOTTY);
}

TEST_F(Api, AddressesThatNobodyUses)
{
	const Vm vm;
	EXPECT_EQ(vm.ioctl(KVM_SET_TSS_ADDR, 0xfffbd000ul), 0);
	EXPECT_EQ(vm.ioctl(KVM_SET_TSS_ADDR, 0xffffe000ul), -EINVAL);
	u64 address = 0xfffbc000;
	EXPECT_EQ(vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
	EXPECT_EQ(vm.ioctl(KVM_SET_BOOT_CPU_ID, 5ul), 0);
	EXPECT_EQ(vm.ioctl(KVM_SET_BOOT_CPU_ID, 5000ul), -EINVAL);
	const Vcpu vcpu = vm.create_vcpu();
	EXPECT_EQ(vm.ioctl(KVM_SET_IDENTITY_MAP_ADDR, &address), -EINVAL);
	kvm_clock_data clock{};
	clock.flags = 1;
	EXPECT_EQ(vm.ioctl(KVM_SET_CLOCK, &clock), -EINVAL);
	kvm_enable_cap capability{};
	capability.cap = KVM_CAP_X2APIC_API;
	capability.args[0] = KVM_X2APIC_API_USE_32BIT_IDS;
	EXPECT_EQ(vm.ioctl(KVM_ENABLE_CAP, &capability), 0);
	capability.args[0] = 4;
	EXPECT_EQ(vm.ioctl(KVM_ENABLE_CAP, &capability), -EINVAL);
	capability.flags = 1;
	EXPECT_EQ(vm.ioctl(KVM_ENABLE_CAP, &capability), -EINVAL);
	EXPECT_GT(sim::ioctl(vcpu.fd(), KVM_GET_TSC_KHZ), 0);
}

TEST_F(Api, EventsThatAreUnderWay)
{
	const Guest32 guest;
	const Vcpu &vcpu = guest.vcpu;
	kvm_vcpu_events events{};
	events.interrupt.injected = 1;
	events.interrupt.nr = 0x80;
	events.interrupt.soft = 1;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	events.flags = KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING;
	events.nmi.pending = 1;
	events.nmi.masked = 1;
	ASSERT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	kvm_vcpu_events again{};
	ASSERT_EQ(vcpu.ioctl(KVM_GET_VCPU_EVENTS, &again), 0);
	EXPECT_EQ(again.interrupt.nr, 0x80);
	EXPECT_TRUE(again.interrupt.soft);
	EXPECT_EQ(again.interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS);
	EXPECT_TRUE(again.nmi.masked);
	EXPECT_EQ(again.nmi.pending, 1);
	events = {};
	events.nmi.injected = 1;
	events.flags = KVM_VCPUEVENT_VALID_SHADOW;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	ASSERT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	ASSERT_EQ(vcpu.ioctl(KVM_GET_VCPU_EVENTS, &again), 0);
	EXPECT_TRUE(again.nmi.injected);
	EXPECT_EQ(again.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	events = {};
	events.flags = 1 << 20;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), -EINVAL);
	events = {};
	ASSERT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	kvm_interrupt interrupt{.irq = 0x40};
	ASSERT_EQ(vcpu.ioctl(KVM_INTERRUPT, &interrupt), 0);
	ASSERT_EQ(vcpu.ioctl(KVM_GET_VCPU_EVENTS, &again), 0);
	EXPECT_EQ(again.interrupt.nr, 0x40);
	interrupt.irq = 256;
	EXPECT_EQ(vcpu.ioctl(KVM_INTERRUPT, &interrupt), -EINVAL);
}

TEST_F(Api, FeatureMsrs)
{
	struct {
		kvm_msr_list header{.nmsrs = 8, .indices = {}};
		u32 indices[8];
	} list{};
	ASSERT_EQ(sim::system_ioctl(KVM_GET_MSR_FEATURE_INDEX_LIST, &list), 0);
	for (u32 i = 0; i < list.header.nmsrs; ++i) {
		struct {
			kvm_msrs header{.nmsrs = 1, .pad = 0, .entries = {}};
			kvm_msr_entry entry{};
		} msr;
		msr.entry.index = list.indices[i];
		EXPECT_EQ(sim::system_ioctl(KVM_GET_MSRS, &msr), 1);
		msr.entry.index = 0x12345;
		EXPECT_EQ(sim::system_ioctl(KVM_GET_MSRS, &msr), 0);
		msr.header.nmsrs = 256;
		EXPECT_EQ(sim::system_ioctl(KVM_GET_MSRS, &msr), -E2BIG);
	}
}

TEST_F(Api, ListsTellHowLongTheyAre)
{
	struct {
		kvm_msr_list header{.nmsrs = 0, .indices = {}};
		u32 indices[200];
	} list{};
	EXPECT_EQ(sim::system_ioctl(KVM_GET_MSR_INDEX_LIST, &list), -E2BIG);
	ASSERT_GT(list.header.nmsrs, 0u);
	ASSERT_LE(list.header.nmsrs, 200u);
	EXPECT_EQ(sim::system_ioctl(KVM_GET_MSR_INDEX_LIST, &list), 0);
	// Each of them can be read and written back.
	const Guest32 guest;
	for (u32 i = 0; i < list.header.nmsrs; ++i) {
		const auto value = guest.vcpu.msr(list.indices[i]);
		ASSERT_TRUE(value) << std::hex << list.indices[i];
		EXPECT_EQ(guest.vcpu.set_msr(list.indices[i], *value), 1) << std::hex << list.indices[i];
	}
	kvm_cpuid2 nothing{};
	EXPECT_EQ(sim::system_ioctl(KVM_GET_SUPPORTED_CPUID, &nothing), -E2BIG);
	nothing.nent = 1;
	EXPECT_EQ(sim::system_ioctl(KVM_GET_SUPPORTED_CPUID, &nothing), -E2BIG);
}

// CVE-2013-4587: numbers of vCPUs index arrays.
TEST_F(Api, NumbersOfVcpus)
{
	const Vm vm;
	for (const u64 id : {u64{4096}, u64{0x80000000}, ~u64{0}, u64{1} << 32})
		EXPECT_EQ(vm.ioctl(KVM_CREATE_VCPU, id), -EINVAL);
	const Vcpu last = vm.create_vcpu(4095), first = vm.create_vcpu(0);
	EXPECT_GE(last.fd(), 0);
	EXPECT_EQ(vm.ioctl(KVM_CREATE_VCPU, 0ul), -EEXIST);
	EXPECT_EQ(vm.ioctl(KVM_SET_BOOT_CPU_ID, 1ul), -EBUSY);
}

TEST_F(Api, Statistics)
{
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.run(sim::in_turn({[](Guest &g) { return g.cpuid(0); },
			  [](Guest &g) { return g.hlt(); }})),
		0);
	const Descriptor file{sim::ioctl(guest.vcpu.fd(), KVM_GET_STATS_FD)};
	EXPECT_EQ(sim::file_name(file.number()), "kvm-vcpu-stats:0");
	std::vector<u8> bytes(16384);
	// In pieces of any length it is the same.
	usize size = 0;
	while (const long got = sim::read(file.number(), bytes.data() + size, 37)) {
		ASSERT_GT(got, 0);
		size += static_cast<usize>(got);
	}
	kvm_stats_header header;
	std::memcpy(&header, bytes.data(), sizeof(header));
	ASSERT_EQ(size, header.data_offset + header.num_desc * sizeof(u64));
	u64 cpuid_exits = 0;
	for (u32 i = 0; i < header.num_desc; ++i) {
		const usize at = header.desc_offset + i * (sizeof(kvm_stats_desc) + header.name_size);
		if (!std::strcmp(reinterpret_cast<char *>(&bytes[at + sizeof(kvm_stats_desc)]), "exit_cpuid"))
			std::memcpy(&cpuid_exits, &bytes[header.data_offset + i * sizeof(u64)], sizeof(u64));
	}
	EXPECT_EQ(cpuid_exits, 1u);
}

TEST_F(Api, CoalescedWritesWaitInTheRing)
{
	const Guest32 guest;
	kvm_coalesced_mmio_zone zone{};
	zone.addr = 0x500;
	zone.size = 4;
	zone.pio = 1;
	ASSERT_EQ(guest.vm.ioctl(KVM_REGISTER_COALESCED_MMIO, &zone), 0);
	unsigned writes = 0;
	EXPECT_EQ(guest.vcpu.run([&](Guest &g) {
		return ++writes <= 3 ? g.out(0x500, 1, 0x40 + writes) : g.hlt();
	}),
		0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
	auto &ring = *static_cast<kvm_coalesced_mmio_ring *>(sim::mapped_page(guest.vcpu.fd(), 2));
	EXPECT_EQ(ring.last, 3u);
	EXPECT_EQ(ring.coalesced_mmio[2].data[0], 0x43);
	// CVE-2019-14821: indices that the VMM has scribbled over are not believed.
	ring.last = 0xffffffff;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.out(0x500, 1, 1); }), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
	ring.last = 0;
	ASSERT_EQ(guest.vm.ioctl(KVM_UNREGISTER_COALESCED_MMIO, &zone), 0);
}

TEST_F(Api, IoEventfdsTakeTheirWrites)
{
	const Guest32 guest;
	const Descriptor eventfd{sim::make_eventfd()};
	kvm_ioeventfd request{};
	request.addr = 0x600;
	request.len = 2;
	request.fd = eventfd.number();
	request.datamatch = 0x1234;
	request.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH;
	ASSERT_EQ(guest.vm.ioctl(KVM_IOEVENTFD, &request), 0);
	EXPECT_EQ(guest.vm.ioctl(KVM_IOEVENTFD, &request), -EEXIST);
	EXPECT_EQ(guest.vcpu.run(sim::in_turn({[](Guest &g) { return g.out(0x600, 2, 0x1234); },
			  [](Guest &g) { return g.out(0x600, 2, 0x1235); }})),
		0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_IO});
	EXPECT_EQ(sim::take_eventfd(eventfd.number()), 1u);
	request.len = 3;
	EXPECT_EQ(guest.vm.ioctl(KVM_IOEVENTFD, &request), -EINVAL);
	request.fd = -1;
	request.len = 4;
	EXPECT_EQ(guest.vm.ioctl(KVM_IOEVENTFD, &request), -EBADF);
}

TEST_F(Api, StateGoesOutAndComesBack)
{
	const Guest32 guest;
	const Vcpu &vcpu = guest.vcpu;
	kvm_regs regs = vcpu.regs();
	regs.r15 = 15;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_REGS, &regs), 0);
	EXPECT_EQ(vcpu.regs().r15, 15u);
	auto fpu = std::make_unique<kvm_fpu>();
	ASSERT_EQ(vcpu.ioctl(KVM_GET_FPU, fpu.get()), 0);
	EXPECT_EQ(fpu->fcw, 0x37f);
	fpu->xmm[3][0] = 42;
	fpu->mxcsr = ~0u; // reserved bits are not taken
	ASSERT_EQ(vcpu.ioctl(KVM_SET_FPU, fpu.get()), 0);
	// All others are, even before the processor has shown which those are.
	ASSERT_EQ(vcpu.ioctl(KVM_GET_FPU, fpu.get()), 0);
	EXPECT_EQ(fpu->mxcsr, 0xffffu);
	auto xsave = std::make_unique<kvm_xsave>();
	ASSERT_EQ(vcpu.ioctl(KVM_GET_XSAVE, xsave.get()), 0);
	EXPECT_EQ(xsave->region[(160 + 48) / 4], 42u);
	xsave->region[512 / 4] = ~0u;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_XSAVE, xsave.get()), -EINVAL);
	kvm_vcpu_events events{};
	events.exception.injected = 1;
	events.exception.nr = 14;
	events.exception.has_error_code = 1;
	events.exception.error_code = 2;
	ASSERT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), 0);
	ASSERT_EQ(vcpu.ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
	EXPECT_EQ(events.exception.nr, 14);
	EXPECT_EQ(vcpu.run([](Guest &g) {
		EXPECT_TRUE(g.delivered && g.delivered->event.vector() == 14 && g.delivered->error_code == 2);
		return g.hlt();
	}),
		0);
	events.exception.nr = 2;
	events.exception.injected = 1;
	EXPECT_EQ(vcpu.ioctl(KVM_SET_VCPU_EVENTS, &events), -EINVAL);
	kvm_clock_data clock{};
	EXPECT_EQ(guest.vm.ioctl(KVM_GET_CLOCK, &clock), 0);
	clock.clock = 5'000'000'000;
	clock.flags = 0;
	EXPECT_EQ(guest.vm.ioctl(KVM_SET_CLOCK, &clock), 0);
	kvm_clock_data later{};
	EXPECT_EQ(guest.vm.ioctl(KVM_GET_CLOCK, &later), 0);
	EXPECT_EQ(later.clock, 5'000'000'000u);
}

TEST_F(Api, ImmediateExitAndTheSignalMask)
{
	const Guest32 guest;
	guest.vcpu.shared().immediate_exit = 1;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), -EINTR);
	guest.vcpu.shared().immediate_exit = 0;
	struct {
		kvm_signal_mask header{.len = 8, .sigset = {}};
		u8 mask[8]{};
	} mask;
	mask.mask[0] = 0x55;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_SIGNAL_MASK, &mask), 0);
	EXPECT_EQ(guest.vcpu.run([](Guest &g) {
		EXPECT_EQ(sim::this_thread().signal_mask, 0x55u);
		return g.hlt();
	}),
		0);
	EXPECT_EQ(sim::this_thread().signal_mask, 0u);
	mask.header.len = 4;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_SIGNAL_MASK, 0ul), 0);
	EXPECT_EQ(sim::ioctl(guest.vcpu.fd(), KVM_RUN, 1ul), -EINVAL);
}

// CVE-2012-4461 and its kin: states that no processor can be in.
TEST_F(Api, ImpossibleStatesAreRefused)
{
	const Guest32 guest;
	const auto refused = [&](auto change) {
		kvm_sregs sregs = guest.vcpu.sregs();
		change(sregs);
		return guest.vcpu.ioctl(KVM_SET_SREGS, &sregs);
	};
	EXPECT_EQ(refused([](kvm_sregs &s) { s.cr4 |= X86_CR4_VMXE; }), -EINVAL);
	EXPECT_EQ(refused([](kvm_sregs &s) { s.cr0 = X86_CR0_PG; }), -EINVAL);
	EXPECT_EQ(refused([](kvm_sregs &s) { s.efer = 1 << 4; }), -EINVAL);
	EXPECT_EQ(refused([](kvm_sregs &s) { s.cr8 = 16; }), -EINVAL);
	EXPECT_EQ(refused([](kvm_sregs &s) { s.apic_base = ~0ull; }), -EINVAL);
	EXPECT_EQ(refused([](kvm_sregs &) {}), 0);
}

TEST_F(Api, ACpuIdThatChangesUnderARunningGuest)
{
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
	auto table = supported_cpuid();
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_CPUID2, table.get()), 0);
	table->entries[1].edx ^= 1;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_CPUID2, table.get()), -EINVAL);
	table->header.nent = 257;
	EXPECT_EQ(guest.vcpu.ioctl(KVM_SET_CPUID2, table.get()), -E2BIG);
}

} // namespace
} // namespace kvmpp::tests
