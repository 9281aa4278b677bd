// SPDX-License-Identifier: GPL-2.0-only
#include "fuzz/ioctls.h"

#include <linux/kvm.h>

namespace kvmpp::fuzz
{
namespace
{

template <class T>
T &as(std::span<u8> argument)
{
	return *reinterpret_cast<T *>(argument.data());
}

// Of either address space.
u32 slot_number(u32 number, Input &input)
{
	return number % 5 | (input.choose(3) ? 0 : 1 << 16);
}

void slot(std::span<u8> argument, Input &input, const Surroundings &around)
{
	auto &region = as<kvm_userspace_memory_region>(argument);
	if (input.choose(16))
		region.slot = slot_number(region.slot, input);
	region.flags &= input.choose(16) ? 3 : ~0u;
	region.guest_phys_addr = u64{input.choose(32)} * page_size;
	region.memory_size = u64{input.choose(9)} * page_size;
	region.userspace_addr = around.any_address(input);
	// From the handler's first instruction to the end of the saved state, where SMRAM is at reset.
	if (region.slot >> 16 && input.choose(4)) {
		region.guest_phys_addr = 0x38000;
		region.memory_size = 8 * page_size;
		region.userspace_addr = around.ram.address();
	}
}

void dirty_log(std::span<u8> argument, Input &input, const Surroundings &around)
{
	auto &log = as<kvm_dirty_log>(argument);
	log.slot = slot_number(log.slot, input);
	log.padding2 = around.any_address(input);
}

void clear_dirty_log(std::span<u8> argument, Input &input, const Surroundings &around)
{
	auto &log = as<kvm_clear_dirty_log>(argument);
	log.slot = slot_number(log.slot, input);
	log.num_pages = input.choose(16);
	log.first_page = input.choose(3) * 64;
	log.padding2 = around.any_address(input);
}

void irqfd(std::span<u8> argument, Input &input, const Surroundings &around)
{
	auto &request = as<kvm_irqfd>(argument);
	request.fd = static_cast<u32>(around.any_descriptor(input));
	request.resamplefd = static_cast<u32>(around.any_descriptor(input));
	request.gsi %= input.choose(8) ? 26 : ~0u;
	request.flags &= input.choose(8) ? 3 : ~0u;
}

void ioeventfd(std::span<u8> argument, Input &input, const Surroundings &around)
{
	auto &request = as<kvm_ioeventfd>(argument);
	request.fd = around.any_descriptor(input);
	request.addr = input.one_of<u64>({0x500, 0x501, 0xd0000000, 0xfffffffffffffff8});
	request.len = input.one_of<u32>({0, 1, 2, 4, 8, 3});
	request.flags &= input.choose(8) ? 7 : ~0u;
}

void routing(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &table = as<kvm_irq_routing>(argument);
	table.flags = 0;
	const usize room = (argument.size() - sizeof(table)) / sizeof(kvm_irq_routing_entry);
	for (usize i = 0; i < room; ++i) {
		auto &entry = table.entries[i];
		entry.gsi %= 30;
		entry.type = input.one_of<u32>({1, 1, 2, 2, 4});
		entry.flags = 0;
		if (entry.type == KVM_IRQ_ROUTING_IRQCHIP) {
			entry.u.irqchip.irqchip %= 4;
			entry.u.irqchip.pin %= 26;
		}
	}
}

void irq_level(std::span<u8> argument, Input &, const Surroundings &)
{
	as<kvm_irq_level>(argument).irq %= 30;
	as<kvm_irq_level>(argument).level &= 1;
}

void capability(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &request = as<kvm_enable_cap>(argument);
	request.cap = input.one_of<u32>({KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		KVM_CAP_X2APIC_API, KVM_CAP_DIRTY_LOG_RING, KVM_CAP_HLT});
	request.flags = 0;
	request.args[0] = input.one_of<u64>({0, 1, 2, 3, 24, 4096, ~0ull});
}

void zone(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &request = as<kvm_coalesced_mmio_zone>(argument);
	request.addr = input.one_of<u64>({0x500, 0xd0000000, 0xb8000});
	request.size = input.choose(32);
	request.pio = input.choose(3);
}

void sregs(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &state = as<kvm_sregs>(argument);
	// Mostly a state that a processor can be in, with one thing that is not as usual.
	if (!input.choose(4))
		return;
	state.cr0 = input.one_of<u64>({0x60000010, 0x31, 0x80000031, 0x80050033});
	state.cr4 = input.one_of<u64>({0, 0x20, 0x2a0, 0x206a0, 0x40620, 0x2000});
	state.efer = input.one_of<u64>({0, 0x500, 0xd01, 0x100});
	state.cr3 &= 0xffff;
	state.cr8 &= 15;
	state.apic_base = input.one_of<u64>({0xfee00900, 0xfee00000, 0xfee00d00, 0xfee00c00});
	std::memset(state.interrupt_bitmap, 0, sizeof(state.interrupt_bitmap));
}

void msrs(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &list = as<kvm_msrs>(argument);
	const usize room = (argument.size() - sizeof(list)) / sizeof(kvm_msr_entry);
	for (usize i = 0; i < room; ++i) {
		auto &entry = list.entries[i];
		switch (input.choose(4)) {
		case 0: entry.index = 0x800 + (entry.index & 0xff); break;
		case 1: entry.index = 0xc0000080 + (entry.index & 0x8f); break;
		case 2: entry.index &= 0xfff; break;
		case 3: // SMRAM comes to where slots are
			entry.index = 0x9e;
			entry.data = u64{input.choose(16)} * page_size;
			continue;
		}
		entry.data = input.number();
	}
}

// Mostly flags that there are, and an exception or none.
void events(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &state = as<kvm_vcpu_events>(argument);
	if (!input.choose(4))
		return;
	state.flags &= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	state.exception.injected = input.choose(4) == 0;
	state.exception.nr &= 31;
	state.smi.smm &= 1;
	state.smi.pending &= 1;
}

void cpuid(std::span<u8> argument, Input &input, const Surroundings &)
{
	auto &table = as<kvm_cpuid2>(argument);
	const usize room = (argument.size() - sizeof(table)) / sizeof(kvm_cpuid_entry2);
	for (usize i = 0; i < room; ++i) {
		table.entries[i].function = input.one_of<u32>(
			{0, 1, 4, 7, 0xd, 0x40000000, 0x40000001, 0x80000000, 0x80000001, 0x80000008});
		table.entries[i].index &= 3;
		table.entries[i].flags &= 1;
	}
}

template <class Header, class Item>
constexpr Ioctl array(On on, unsigned command, usize count_place,
	void (*refine)(std::span<u8>, Input &, const Surroundings &) = nullptr)
{
	return {.on = on,
		.command = command,
		.item_size = sizeof(Item),
		.count_place = count_place,
		.refine = refine};
}

constexpr Ioctl number(On on, unsigned command)
{
	return {.on = on, .command = command, .by_value = true};
}

constexpr Ioctl object(On on, unsigned command,
	void (*refine)(std::span<u8>, Input &, const Surroundings &) = nullptr)
{
	return {.on = on, .command = command, .refine = refine};
}

const Ioctl table[] = {
	number(On::system, KVM_GET_API_VERSION),
	number(On::system, KVM_CREATE_VM),
	number(On::system, KVM_CHECK_EXTENSION),
	number(On::system, KVM_GET_VCPU_MMAP_SIZE),
	array<kvm_cpuid2, kvm_cpuid_entry2>(On::system, KVM_GET_SUPPORTED_CPUID, 0),
	array<kvm_msr_list, u32>(On::system, KVM_GET_MSR_INDEX_LIST, 0),
	array<kvm_msr_list, u32>(On::system, KVM_GET_MSR_FEATURE_INDEX_LIST, 0),
	array<kvm_msrs, kvm_msr_entry>(On::system, KVM_GET_MSRS, 0, msrs),

	number(On::vm, KVM_CREATE_VCPU),
	number(On::vm, KVM_CHECK_EXTENSION),
	object(On::vm, KVM_SET_USER_MEMORY_REGION, slot),
	object(On::vm, KVM_GET_DIRTY_LOG, dirty_log),
	object(On::vm, KVM_CLEAR_DIRTY_LOG, clear_dirty_log),
	number(On::vm, KVM_RESET_DIRTY_RINGS),
	object(On::vm, KVM_ENABLE_CAP, capability),
	object(On::vm, KVM_REGISTER_COALESCED_MMIO, zone),
	object(On::vm, KVM_UNREGISTER_COALESCED_MMIO, zone),
	number(On::vm, KVM_SET_TSS_ADDR),
	object(On::vm, KVM_SET_IDENTITY_MAP_ADDR),
	number(On::vm, KVM_SET_BOOT_CPU_ID),
	object(On::vm, KVM_GET_CLOCK),
	object(On::vm, KVM_SET_CLOCK),
	number(On::vm, KVM_GET_STATS_FD),
	object(On::vm, KVM_IOEVENTFD, ioeventfd),
	number(On::vm, KVM_CREATE_IRQCHIP),
	object(On::vm, KVM_CREATE_PIT2),
	object(On::vm, KVM_IRQ_LINE, irq_level),
	object(On::vm, KVM_IRQ_LINE_STATUS, irq_level),
	array<kvm_irq_routing, kvm_irq_routing_entry>(On::vm, KVM_SET_GSI_ROUTING, 0, routing),
	object(On::vm, KVM_SIGNAL_MSI),
	object(On::vm, KVM_IRQFD, irqfd),
	object(On::vm, KVM_GET_IRQCHIP),
	object(On::vm, KVM_SET_IRQCHIP),
	object(On::vm, KVM_GET_PIT2),
	object(On::vm, KVM_SET_PIT2),
	object(On::vm, KVM_REINJECT_CONTROL),

	object(On::vcpu, KVM_GET_REGS),
	object(On::vcpu, KVM_SET_REGS),
	object(On::vcpu, KVM_GET_SREGS),
	object(On::vcpu, KVM_SET_SREGS, sregs),
	object(On::vcpu, KVM_GET_DEBUGREGS),
	object(On::vcpu, KVM_SET_DEBUGREGS),
	object(On::vcpu, KVM_GET_FPU),
	object(On::vcpu, KVM_SET_FPU),
	object(On::vcpu, KVM_GET_XSAVE),
	object(On::vcpu, KVM_SET_XSAVE),
	object(On::vcpu, KVM_GET_XCRS),
	object(On::vcpu, KVM_SET_XCRS),
	array<kvm_msrs, kvm_msr_entry>(On::vcpu, KVM_GET_MSRS, 0, msrs),
	array<kvm_msrs, kvm_msr_entry>(On::vcpu, KVM_SET_MSRS, 0, msrs),
	array<kvm_cpuid2, kvm_cpuid_entry2>(On::vcpu, KVM_SET_CPUID2, 0, cpuid),
	array<kvm_cpuid2, kvm_cpuid_entry2>(On::vcpu, KVM_GET_CPUID2, 0),
	object(On::vcpu, KVM_GET_LAPIC),
	object(On::vcpu, KVM_SET_LAPIC),
	object(On::vcpu, KVM_GET_VCPU_EVENTS),
	object(On::vcpu, KVM_SET_VCPU_EVENTS, events),
	object(On::vcpu, KVM_GET_MP_STATE),
	object(On::vcpu, KVM_SET_MP_STATE),
	object(On::vcpu, KVM_INTERRUPT),
	number(On::vcpu, KVM_NMI),
	number(On::vcpu, KVM_SMI),
	array<kvm_signal_mask, u8>(On::vcpu, KVM_SET_SIGNAL_MASK, 0),
	number(On::vcpu, KVM_GET_STATS_FD),
	number(On::vcpu, KVM_GET_TSC_KHZ),
};

} // namespace

std::span<const Ioctl> all_ioctls()
{
	return table;
}

} // namespace kvmpp::fuzz
