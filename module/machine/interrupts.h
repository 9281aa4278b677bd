// SPDX-License-Identifier: GPL-2.0-only
// The way of an interrupt through a VM: from a GSI by its routes to chips and local APICs, and back
// when the guest has finished it.
//
// Lock order: the routes' spinlock is a leaf; the chips' spinlocks are leaves but for the delivery to
// local APICs, which takes none. Acknowledgements are told without a lock.
#pragma once

#include "machine/legacy_chips.h"
#include "machine/published.h"
#include "machine/routing.h"
#include "x86/devices/lapic.h"

namespace kvmpp::machine
{

class Vm;
class Vcpu;

// Who holds a line up; a line is high while anyone does.
enum class IrqSource : u8 { userspace = 0, pit = 1, resample = 2 };

// Which interrupt controllers are in the module.
enum class IrqchipMode : u8 {
	none,	// all in the VMM
	kernel, // all here
	split,	// local APICs here, PICs and I/O APIC in the VMM
};

// Wants to know when the guest has finished a GSI. Any context that may signal an eventfd; no lock is
// held.
class AcknowledgeListener {
    public:
	virtual void acknowledged() = 0;

	// Set by Interrupts.
	u32 gsi = 0;
	std::atomic<AcknowledgeListener *> next{nullptr};

    protected:
	~AcknowledgeListener() = default;
};

class Interrupts : host::Pinned {
    public:
	Interrupts(Vm &vm, host::Own<RoutingTable> routes);
	// Nobody raises an interrupt any more, and no timer does afterwards.
	void stop();

	IrqchipMode mode() const { return mode_.load(std::memory_order_acquire); }
	bool has_lapics() const { return mode() != IrqchipMode::none; }
	// nullptr unless they are here.
	LegacyChips *chips() const
	{
		return mode() == IrqchipMode::kernel ? chips_.get() : nullptr;
	}
	x86::Pit *pit() const { return pit_.load(std::memory_order_acquire); }

	// The caller holds the VM's lock, and there is no vCPU yet. EEXIST; ENOMEM, ENOSPC.
	Result<> create_chips();
	// With `pins` GSIs kept for the I/O APIC of the VMM. EEXIST; EINVAL; ENOMEM.
	Result<> split(u64 pins);
	// EEXIST; ENOENT: no chips here; ENOMEM, ENOSPC.
	Result<> create_pit(bool speaker);

	// KVM_SET_GSI_ROUTING. EINVAL, ENOMEM. May sleep.
	Result<> set_routes(std::span<const kvm_irq_routing_entry> entries, bool wide_ids);

	// Any context from here on. Results are those of KVM_IRQ_LINE_STATUS: negative ignored, 0
	// coalesced, else how many took it.
	int set_line(u32 gsi, IrqSource source, bool level);
	int deliver(const x86::Message &message, const Vcpu *sender = nullptr);
	int deliver_msi(u64 address, u32 data);
	// Whether anybody wants to know that this processor has ended an interrupt.
	bool wants_eoi(const x86::Lapic &lapic, u8 vector) const
	{
		const LegacyChips *here = chips();
		return lapic.ended(vector).level || (here && here->ioapic.handles(vector));
	}
	// Vectors whose end somebody wants to know: a superset, a bit for each.
	std::array<u64, 4> eoi_vectors();
	// A processor has finished an interrupt. True: the VMM's I/O APIC has to be told.
	bool end_of_interrupt(const Vcpu &vcpu, const x86::Lapic::Eoi &eoi);

	// Process context; after remove() returns the listener is not called any more.
	void listen(u32 gsi, AcknowledgeListener &listener);
	void remove(AcknowledgeListener &listener);

	// The chips' calls.
	int deliver_from_ioapic(const x86::Message &message) { return deliver(message); }
	void pic_output(bool level);
	void pic_acknowledged(unsigned line) { acknowledged(ChipInput::pic, line); }
	void ioapic_acknowledged(unsigned pin) { acknowledged(ChipInput::ioapic, pin); }
	void eoi_vectors_changed();

    private:
	void acknowledged(ChipInput chip, unsigned pin);
	int deliver_lowest(const x86::Message &message, u32 sender);
	template <class Use>
	void for_each_target(const x86::Message &message, u32 sender, Use &&use);
	template <class Use>
	void for_each_split_level(Use &&use);

	using Routes = host::Own<RoutingTable>;

	Vm &vm_;
	std::atomic<IrqchipMode> mode_{IrqchipMode::none};
	std::atomic<x86::Pit *> pit_{nullptr};
	host::Locked<Routes, host::LockClass::gsi_routes, host::SpinLock> routes_;
	host::Mutex listeners_lock_{host::LockClass::listeners}; // for changes; who walks the list reads
	std::atomic<AcknowledgeListener *> listeners_{nullptr};
	Reader listeners_reader_;
	u32 split_pins_ = 0;
	host::Own<LegacyChips> chips_;
	host::Own<PitDevice> pit_device_; // first to go: its timer raises lines
};

} // namespace kvmpp::machine
