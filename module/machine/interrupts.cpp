// SPDX-License-Identifier: GPL-2.0-only
#include "machine/interrupts.h"

#include <algorithm>
#include "machine/vm.h"

namespace kvmpp::machine
{
namespace
{

// The routes of one GSI, copied out from under the lock: at most one to each chip, or one MSI.
struct FewRoutes {
	std::array<Route, 2> route;
	unsigned count = 0;
};

} // namespace

Interrupts::Interrupts(Vm &vm, Routes routes)
	: vm_{vm}, routes_{std::move(routes)}, listeners_reader_{vm.readers}
{
}

void Interrupts::stop()
{
	pit_device_ = nullptr;
	chips_ = nullptr;
}

Result<> Interrupts::create_chips()
{
	if (mode() != IrqchipMode::none)
		return fail(EEXIST);
	auto routes = TRY(RoutingTable::of_a_pc());
	auto chips = TRY(host::make<LegacyChips>(*this, vm_.ports, vm_.mmio));
	TRY(chips->attach());
	chips_ = std::move(chips);
	routes_.with([&](Routes &current) { std::swap(current, routes); });
	mode_.store(IrqchipMode::kernel, std::memory_order_release);
	return {};
}

Result<> Interrupts::split(u64 pins)
{
	if (mode() != IrqchipMode::none)
		return fail(EEXIST);
	if (pins > RoutingTable::max_routes)
		return fail(EINVAL);
	split_pins_ = static_cast<u32>(pins);
	mode_.store(IrqchipMode::split, std::memory_order_release);
	return {};
}

Result<> Interrupts::create_pit(bool speaker)
{
	if (pit_device_)
		return fail(EEXIST);
	if (!chips())
		return fail(ENOENT);
	auto device = TRY(host::make<PitDevice>(*this, vm_.ports));
	TRY(device->attach(speaker));
	pit_device_ = std::move(device);
	pit_.store(&pit_device_->pit, std::memory_order_release);
	return {};
}

Result<> Interrupts::set_routes(std::span<const kvm_irq_routing_entry> entries, bool wide_ids)
{
	auto fresh = TRY(RoutingTable::from_user(entries, mode() == IrqchipMode::kernel, wide_ids));
	// The old table is freed here, not under the spinlock.
	routes_.with([&](Routes &current) { std::swap(current, fresh); });
	if (mode() == IrqchipMode::split)
		eoi_vectors_changed();
	return {};
}

int Interrupts::set_line(u32 gsi, IrqSource source, bool level)
{
	const FewRoutes few = routes_.with([gsi](const Routes &routes) {
		FewRoutes result;
		for (const Route &route : routes->routes_of(gsi))
			result.route[result.count++] = route;
		return result;
	});

	const auto id = static_cast<unsigned>(source);
	int result = x86::delivery_ignored;
	for (unsigned i = 0; i < few.count; ++i) {
		const Route &route = few.route[i];
		int one = x86::delivery_ignored;
		if (route.kind == Route::Kind::msi)
			one = level ? deliver_msi(route.address, route.data) : one;
		else if (LegacyChips *here = chips())
			one = route.chip == ChipInput::pic
				      ? here->pic.set_line(route.pin, id, level)
				      : here->ioapic.set_line(route.pin, id, level);
		if (one >= 0)
			result = std::max(result, 0) + one;
	}
	return result;
}

int Interrupts::deliver_msi(u64 address, u32 data)
{
	return deliver(x86::msi_message(address, data, vm_.wide_apic_ids()));
}

// Calls use(vCPU) for each that the message names. The common ones are found without a walk: ids are
// mostly those that the vCPU was made with, and nothing else matches them.
template <class Use>
void Interrupts::for_each_target(const x86::Message &message, u32 sender, Use &&use)
{
	const auto matches = [&](const Vcpu &vcpu) {
		return vcpu.lapic && x86::addresses(vcpu.lapic->identity(), message, sender);
	};
	const bool one = message.shorthand == x86::Shorthand::self ||
			 (message.shorthand == x86::Shorthand::none && !message.logical &&
				 !x86::is_broadcast(message));
	if (one && !vm_.apic_ids_changed()) {
		const bool self = message.shorthand == x86::Shorthand::self;
		Vcpu *vcpu = vm_.vcpus.find(self ? sender : message.destination);
		if (vcpu && matches(*vcpu)) {
			use(*vcpu);
			return;
		}
	}
	vm_.vcpus.for_each([&](Vcpu &vcpu) {
		if (matches(vcpu))
			use(vcpu);
	});
}

int Interrupts::deliver_lowest(const x86::Message &message, u32 sender)
{
	x86::Arbitration arbitration{message.vector};
	for_each_target(message, sender, [&](Vcpu &vcpu) {
		if (vcpu.lapic->identity().software_enabled)
			arbitration.offer(vcpu.id, vcpu.lapic->task_priority());
	});
	return arbitration.found() ? vm_.vcpus.find(arbitration.winner())->lapic->accept(message)
				   : x86::delivery_ignored;
}

int Interrupts::deliver(const x86::Message &message, const Vcpu *sender)
{
	const u32 from = sender ? sender->id : ~u32{0};
	if (message.delivery == x86::Delivery::lowest_priority)
		return deliver_lowest(message, from);
	int result = x86::delivery_ignored;
	for_each_target(message, from, [&](Vcpu &vcpu) {
		const int one = vcpu.lapic->accept(message);
		if (one >= 0)
			result = std::max(result, 0) + one;
	});
	return result;
}

// Calls use(message) for each level-triggered pin of the VMM's I/O APIC: they are MSIs in the first routes.
template <class Use>
void Interrupts::for_each_split_level(Use &&use)
{
	const bool wide = vm_.wide_apic_ids();
	routes_.with([&](const Routes &routes) {
		for (const Route &route : routes->all()) {
			if (route.gsi >= split_pins_)
				break;
			if (route.kind != Route::Kind::msi)
				continue;
			const auto message = x86::msi_message(route.address, route.data, wide);
			if (message.level)
				use(message);
		}
	});
}

bool Interrupts::end_of_interrupt(const Vcpu &vcpu, const x86::Lapic::Eoi &eoi)
{
	if (LegacyChips *here = chips()) {
		if (here->ioapic.handles(eoi.vector))
			here->ioapic.end_of_interrupt(eoi.vector, eoi.broadcast);
		return false;
	}
	if (!eoi.broadcast)
		return false;
	const x86::Identity identity = vcpu.lapic->identity();
	bool found = false;
	for_each_split_level([&](const x86::Message &message) {
		found |= message.vector == eoi.vector && x86::matches(identity, message);
	});
	return found;
}

std::array<u64, 4> Interrupts::eoi_vectors()
{
	if (LegacyChips *here = chips())
		return here->ioapic.vectors();
	std::array<u64, 4> vectors{};
	for_each_split_level(
		[&](const x86::Message &message) { vectors[message.vector >> 6] |= bit(message.vector & 63); });
	return vectors;
}

void Interrupts::eoi_vectors_changed()
{
	// Where software ends interrupts it asks then.
	if (vm_.hypervisor.engine().controls().delivers_interrupts())
		vm_.request_all(Request::local_apic);
}

// The PIC's output goes to every processor whose LINT0 lets it through: the first, as a rule.
void Interrupts::pic_output(bool level)
{
	if (!level)
		return;
	vm_.vcpus.for_each([](Vcpu &vcpu) {
		if (vcpu.lapic && vcpu.lapic->accepts_pic())
			vcpu.mailbox.request_and_kick(Request::event);
	});
}

void Interrupts::acknowledged(ChipInput chip, unsigned pin)
{
	const u32 gsi = routes_.with([&](const Routes &routes) { return routes->gsi_of(chip, pin); });
	if (gsi == 0)
		if (x86::Pit *pit = this->pit())
			pit->acknowledged();
	SharedReadSection section{listeners_reader_};
	for (auto *one = listeners_.load(std::memory_order_acquire); one;
		one = one->next.load(std::memory_order_acquire))
		if (one->gsi == gsi)
			one->acknowledged();
}

void Interrupts::listen(u32 gsi, AcknowledgeListener &listener)
{
	host::Mutex::Guard guard{listeners_lock_};
	listener.gsi = gsi;
	listener.next.store(listeners_.load(std::memory_order_relaxed), std::memory_order_relaxed);
	listeners_.store(&listener, std::memory_order_release);
}

void Interrupts::remove(AcknowledgeListener &listener)
{
	host::Mutex::Guard guard{listeners_lock_};
	for (auto *link = &listeners_; link->load(std::memory_order_relaxed);
		link = &link->load(std::memory_order_relaxed)->next) {
		if (link->load(std::memory_order_relaxed) != &listener)
			continue;
		link->store(listener.next.load(std::memory_order_relaxed), std::memory_order_release);
		vm_.readers.drain();
		return;
	}
}

} // namespace kvmpp::machine
