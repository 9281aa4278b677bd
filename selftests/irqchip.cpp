// SPDX-License-Identifier: GPL-2.0-only
// The ioctls around interrupt controllers: the order in which they come to be, their state, and
// their lines.
#include <cerrno>
#include <cstring>
#include "kvm.h"

using namespace kvmpp::selftests;

namespace
{

struct Fixture {
	System system;
	Vm vm{system};

	Fixture() { NEED(system, KVM_CAP_IRQCHIP); }
};

struct WithIrqchip : Fixture {
	WithIrqchip() { REQUIRE_EQ(vm.call(KVM_CREATE_IRQCHIP), 0); }
};

kvm_irqchip state_of(const Vm &vm, u32 chip)
{
	kvm_irqchip state{};
	state.chip_id = chip;
	REQUIRE_EQ(vm.call(KVM_GET_IRQCHIP, &state), 0);
	return state;
}

} // namespace

TEST(one_irqchip_per_vm)
{
	WithIrqchip fixture;
	CHECK_EQ(fixture.vm.call(KVM_CREATE_IRQCHIP), -EEXIST);
}

TEST(irqchip_comes_before_vcpus)
{
	Fixture fixture;
	Vcpu vcpu{fixture.system, fixture.vm};
	CHECK_EQ(fixture.vm.call(KVM_CREATE_IRQCHIP), -EINVAL);
}

TEST(nothing_of_an_irqchip_works_without_one)
{
	Fixture fixture;
	kvm_irq_level level{{4}, 1};
	CHECK_EQ(fixture.vm.call(KVM_IRQ_LINE, &level), -ENXIO);
	CHECK_EQ(fixture.vm.call(KVM_IRQ_LINE_STATUS, &level), -ENXIO);
	kvm_irqchip chip{};
	CHECK_EQ(fixture.vm.call(KVM_GET_IRQCHIP, &chip), -ENXIO);
	CHECK_EQ(fixture.vm.call(KVM_SET_IRQCHIP, &chip), -ENXIO);
	kvm_pit_state2 state{};
	CHECK_EQ(fixture.vm.call(KVM_GET_PIT2, &state), -ENXIO);
	CHECK_EQ(fixture.vm.call(KVM_SET_PIT2, &state), -ENXIO);
	Vcpu vcpu{fixture.system, fixture.vm};
	kvm_lapic_state lapic{};
	CHECK_EQ(vcpu.call(KVM_GET_LAPIC, &lapic), -EINVAL);
	CHECK_EQ(vcpu.call(KVM_SET_LAPIC, &lapic), -EINVAL);
}

TEST(one_pit_per_vm)
{
	WithIrqchip fixture;
	NEED(fixture.system, KVM_CAP_PIT2);
	kvm_pit_config pit{};
	CHECK_EQ(fixture.vm.call(KVM_CREATE_PIT2, bad_pointer), -EFAULT);
	CHECK_EQ(fixture.vm.call(KVM_CREATE_PIT2, &pit), 0);
	CHECK_EQ(fixture.vm.call(KVM_CREATE_PIT2, &pit), -EEXIST);
}

TEST(bad_pointers_fault)
{
	WithIrqchip fixture;
	kvm_pit_config pit{};
	REQUIRE_EQ(fixture.vm.call(KVM_CREATE_PIT2, &pit), 0);
	for (auto request : {KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS,
		     KVM_GET_PIT2, KVM_SET_PIT2})
		if (!CHECK_EQ(fixture.vm.call(request, bad_pointer), -EFAULT))
			note("request %#lx", static_cast<unsigned long>(request));
}

TEST(there_are_three_chips)
{
	WithIrqchip fixture;
	for (u32 id : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC})
		state_of(fixture.vm, id);
	for (u32 id : {3u, 4u, 0x80000000u, ~0u}) {
		kvm_irqchip chip{};
		chip.chip_id = id;
		CHECK_EQ(fixture.vm.call(KVM_GET_IRQCHIP, &chip), -EINVAL);
		CHECK_EQ(fixture.vm.call(KVM_SET_IRQCHIP, &chip), -EINVAL);
	}
}

TEST(ioapic_begins_masked)
{
	WithIrqchip fixture;
	kvm_irqchip chip = state_of(fixture.vm, KVM_IRQCHIP_IOAPIC);
	CHECK_EQ(chip.chip.ioapic.base_address, 0xfec00000u);
	for (auto &entry : chip.chip.ioapic.redirtbl)
		CHECK_EQ(entry.fields.mask, 1);
}

TEST(ioapic_comes_back)
{
	WithIrqchip fixture;
	kvm_irqchip chip = state_of(fixture.vm, KVM_IRQCHIP_IOAPIC);
	chip.chip.ioapic.ioregsel = 0x12;
	chip.chip.ioapic.id = 3;
	for (u32 i = 0; i < KVM_IOAPIC_NUM_PINS; ++i) {
		auto &entry = chip.chip.ioapic.redirtbl[i];
		entry.fields.vector = static_cast<u8>(0x30 + i);
		entry.fields.dest_id = static_cast<u8>(i);
		entry.fields.trig_mode = i % 2;
		entry.fields.mask = i % 3 == 0;
	}
	REQUIRE_EQ(fixture.vm.call(KVM_SET_IRQCHIP, &chip), 0);
	kvm_irqchip back = state_of(fixture.vm, KVM_IRQCHIP_IOAPIC);
	CHECK_EQ(back.chip.ioapic.ioregsel, chip.chip.ioapic.ioregsel);
	CHECK_EQ(back.chip.ioapic.id, chip.chip.ioapic.id);
	for (u32 i = 0; i < KVM_IOAPIC_NUM_PINS; ++i)
		CHECK_EQ(back.chip.ioapic.redirtbl[i].bits, chip.chip.ioapic.redirtbl[i].bits);
}

TEST(pics_come_back)
{
	WithIrqchip fixture;
	for (u32 id : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
		kvm_irqchip chip = state_of(fixture.vm, id);
		chip.chip.pic.irq_base = static_cast<u8>(0x20 + 8 * id);
		chip.chip.pic.imr = 0xfb;
		chip.chip.pic.init4 = 1;
		REQUIRE_EQ(fixture.vm.call(KVM_SET_IRQCHIP, &chip), 0);
		kvm_irqchip back = state_of(fixture.vm, id);
		CHECK_EQ(back.chip.pic.irq_base, chip.chip.pic.irq_base);
		CHECK_EQ(back.chip.pic.imr, chip.chip.pic.imr);
		CHECK_EQ(back.chip.pic.init4, 1);
	}
}

TEST(pit_comes_back)
{
	WithIrqchip fixture;
	NEED(fixture.system, KVM_CAP_PIT_STATE2);
	kvm_pit_config config{};
	REQUIRE_EQ(fixture.vm.call(KVM_CREATE_PIT2, &config), 0);
	kvm_pit_state2 pit{};
	REQUIRE_EQ(fixture.vm.call(KVM_GET_PIT2, &pit), 0);
	pit.channels[2].count = 0x1234;
	pit.channels[2].mode = 3;
	pit.channels[2].gate = 1;
	REQUIRE_EQ(fixture.vm.call(KVM_SET_PIT2, &pit), 0);
	kvm_pit_state2 back{};
	REQUIRE_EQ(fixture.vm.call(KVM_GET_PIT2, &back), 0);
	CHECK_EQ(back.channels[2].count, 0x1234u);
	CHECK_EQ(back.channels[2].mode, 3);
}

TEST(line_status_tells_an_unrouted_line)
{
	WithIrqchip fixture;
	NEED(fixture.system, KVM_CAP_IRQ_INJECT_STATUS);
	for (u32 gsi : {24u, 100u, 1023u, 1024u, 0x80000000u, ~0u}) {
		kvm_irq_level level{{gsi}, 1};
		CHECK_EQ(fixture.vm.call(KVM_IRQ_LINE, &level), 0);
		CHECK_EQ(fixture.vm.call(KVM_IRQ_LINE_STATUS, &level), 0);
		CHECK_EQ(level.status, -1);
	}
}

TEST(lapic_registers_begin_as_after_reset)
{
	WithIrqchip fixture;
	Vcpu first{fixture.system, fixture.vm, 0}, second{fixture.system, fixture.vm, 1};
	kvm_lapic_state lapic{};
	REQUIRE_EQ(second.call(KVM_GET_LAPIC, &lapic), 0);
	auto value = [&](unsigned offset) {
		u32 number;
		memcpy(&number, lapic.regs + offset, sizeof number);
		return number;
	};
	CHECK_EQ(value(0x20) >> 24, 1u);     // id
	CHECK_EQ(value(0x30) & 0xff, 0x14u); // version
	CHECK_EQ(value(0xf0), 0xffu);	     // spurious vector, disabled
	CHECK_EQ(value(0x320), 0x10000u);    // timer, masked
	CHECK_EQ(value(0xe0), 0xffffffffu);  // destination format
}

TEST(lapic_comes_back)
{
	WithIrqchip fixture;
	Vcpu vcpu{fixture.system, fixture.vm};
	kvm_lapic_state lapic{}, back{};
	REQUIRE_EQ(vcpu.call(KVM_GET_LAPIC, &lapic), 0);
	u32 enabled = 0x1ff, timer = 0x10040, priority = 0x20, requested = 1 << 5;
	memcpy(lapic.regs + 0xf0, &enabled, 4);
	memcpy(lapic.regs + 0x320, &timer, 4);
	memcpy(lapic.regs + 0x80, &priority, 4);
	memcpy(lapic.regs + 0x210, &requested, 4); // vector 0x25
	REQUIRE_EQ(vcpu.call(KVM_SET_LAPIC, &lapic), 0);
	REQUIRE_EQ(vcpu.call(KVM_GET_LAPIC, &back), 0);
	for (unsigned offset : {0x80, 0xf0, 0x320, 0x210})
		if (!CHECK_EQ(memcmp(lapic.regs + offset, back.regs + offset, 4), 0))
			note("register %#x", offset);
}
