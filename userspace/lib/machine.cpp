// SPDX-License-Identifier: GPL-2.0-only
// The ioctls of a virtual machine.
#include "lib/machine.h"

namespace kvmpp::lib
{

namespace
{

Result<> nothing(Result<int> answer)
{
	if (!answer)
		return std::unexpected(std::move(answer.error()));
	return {};
}

} // namespace

Result<> Machine::set_slot(
	u32 slot, u64 guest_address, std::span<std::byte> memory, u32 flags) const
{
	const kvm_userspace_memory_region region{
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = guest_address,
		.memory_size = memory.size(),
		.userspace_addr = reinterpret_cast<std::uintptr_t>(memory.data()),
	};
	return nothing(LIBKVMPP_CONTROL(file_, KVM_SET_USER_MEMORY_REGION, &region));
}

Result<> Machine::add_memory(u32 slot, u64 guest_address, Mapping memory, u32 flags)
{
	if (memory_.contains(slot))
		return std::unexpected{Error{"memory slot " + std::to_string(slot), EEXIST}};
	LIBKVMPP_TRY(set_slot(slot, guest_address, memory.bytes(), flags));
	memory_.emplace(slot, std::move(memory));
	return {};
}

Result<> Machine::remove_memory(u32 slot)
{
	LIBKVMPP_TRY(set_slot(slot, 0, {}, 0));
	memory_.erase(slot);
	return {};
}

Result<> Machine::set_tss_address(u64 guest_address) const
{
	return nothing(LIBKVMPP_CONTROL(file_, KVM_SET_TSS_ADDR, guest_address));
}

Result<> Machine::set_identity_map_address(u64 guest_address) const
{
	return nothing(LIBKVMPP_CONTROL(file_, KVM_SET_IDENTITY_MAP_ADDR, &guest_address));
}

Result<> Machine::create_irqchip() const
{
	return nothing(LIBKVMPP_CONTROL(file_, KVM_CREATE_IRQCHIP, 0));
}

Result<> Machine::create_pit(u32 flags) const
{
	const kvm_pit_config config{.flags = flags, .pad = {}};
	return nothing(LIBKVMPP_CONTROL(file_, KVM_CREATE_PIT2, &config));
}

Result<> Machine::set_irq_line(u32 gsi, bool level) const
{
	kvm_irq_level line{};
	line.irq = gsi;
	line.level = level;
	return nothing(LIBKVMPP_CONTROL(file_, KVM_IRQ_LINE, &line));
}

Result<> Machine::assign(const kvm_ioeventfd &event) const
{
	return nothing(LIBKVMPP_CONTROL(file_, KVM_IOEVENTFD, &event));
}

Result<> Machine::assign(const kvm_irqfd &event) const
{
	return nothing(LIBKVMPP_CONTROL(file_, KVM_IRQFD, &event));
}

Result<VirtualCpu> Machine::create_vcpu(u32 id) const
{
	FileDescriptor vcpu{LIBKVMPP_TRY(LIBKVMPP_CONTROL(file_, KVM_CREATE_VCPU, id))};
	Mapping run = LIBKVMPP_TRY(Mapping::of_file(vcpu, run_size_));
	return VirtualCpu{std::move(vcpu), std::move(run)};
}

} // namespace kvmpp::lib
